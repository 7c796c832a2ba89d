/**
 * The view job_status_history: the whole trail of a job.
 */
