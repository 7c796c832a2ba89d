/**
 * The contract: every function and view, with its parameters, called by name as supabase.rpc does.
 */
