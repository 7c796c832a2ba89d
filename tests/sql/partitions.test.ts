/**
 * Partitions of jobs and runs: made ahead, cut about daily, dropped by retention.
 */
