/**
 * queue_stats and queue_health.
 */
