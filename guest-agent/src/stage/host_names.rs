//! The names of a new container's UTS namespace.

use berth_protocol::agent::{ErrorCode, StartContainer};

use crate::failure::{During, Failure};

/// Sets the host and domain name, where asked for.
pub(super) fn set(container: &StartContainer) -> Result<(), Failure> {
    let hostname = container.hostname.as_bytes();
    if !hostname.is_empty() {
        rustix::system::sethostname(hostname).during(ErrorCode::InvalidRequest, || "set the host name")?;
    }
    let domainname = container.domainname.as_bytes();
    if !domainname.is_empty() {
        rustix::system::setdomainname(domainname)
            .during(ErrorCode::InvalidRequest, || "set the domain name")?;
    }
    Ok(())
}
