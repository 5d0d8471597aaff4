//! The promises, checked against real files, real kernels and real servers.
