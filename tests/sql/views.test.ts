/**
 * The views job_queue, queue_jobs and job_dead_letter.
 */
