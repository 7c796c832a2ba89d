/**
 * What holds for every object of the schema, read from the live catalog.
 */
