/**
 * The audit: what people and maintenance did.
 */
