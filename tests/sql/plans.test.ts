/**
 * The plans of the claim and of the settlement: what they touch does not grow with the backlog.
 */
