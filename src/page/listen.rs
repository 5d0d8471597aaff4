use std::io;
use std::net::SocketAddr;

/// Why an address cannot be listened on, and what to do.
pub fn trouble(listen: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has {listen}; give page.listen another port, or end that program (ss -ltnp shows it)"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("no network card of this machine has the address of {listen}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("the system does not let us have {listen}; give page.listen a port of 1024 or above")
        }
        _ => format!("cannot listen on {listen}: {error}"),
    }
}
