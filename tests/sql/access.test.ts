/**
 * Who may do what: each role beside each view and each function.
 */
