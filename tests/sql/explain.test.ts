/**
 * explain_job: every reason why a job is not running.
 */
