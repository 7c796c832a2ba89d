/**
 * Bells of sleeping workers, and the doorbell of the Edge worker.
 */
