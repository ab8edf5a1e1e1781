//! PROXY protocol v2: a load balancer that passes bytes on says first whose they are.
//!
//! Believed from configured networks only, and there it must come: without it every client would have the load
//! balancer's address. Version 1, a line of text, is not taken: a client could begin its request like that.

use ppp::v2::{Addresses, Command, Header};
use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Magic, command, family, length.
const FIXED_BYTES: usize = 16;
/// Addresses and extensions (TLVs), at most. Those of the large clouds take some hundred bytes.
const REST_BYTES_MAX: usize = 2_048;

/// Reads the header and nothing behind it. `None`: the load balancer speaks for itself (a health check), or does not
/// tell an IP address. Not cancel safe; the caller bounds its time and closes the connection on any error.
pub(super) async fn source<T: AsyncRead + Unpin>(stream: &mut T) -> Result<Option<IpAddr>> {
    let mut header = [0; FIXED_BYTES + REST_BYTES_MAX];
    // What is wrong from its first bytes on is not waited for.
    stream.read_exact(&mut header[..FIXED_BYTES]).await?;
    let rest = usize::from(u16::from_be_bytes([header[FIXED_BYTES - 2], header[FIXED_BYTES - 1]]));
    let (magic, _) = header.split_at(FIXED_BYTES - 4);
    if magic != ppp::v2::PROTOCOL_PREFIX {
        return Err(Error::new(ErrorKind::InvalidData, "no PROXY protocol v2 header"));
    }
    if rest > REST_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, "a PROXY protocol header that is too long"));
    }
    let whole = &mut header[..FIXED_BYTES + rest];
    stream.read_exact(&mut whole[FIXED_BYTES..]).await?;
    let parsed = Header::try_from(&*whole).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    Ok(match (parsed.command, parsed.addresses) {
        (Command::Proxy, Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
        (Command::Proxy, Addresses::IPv6(addresses)) => {
            Some(IpAddr::from(addresses.source_address).to_canonical())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppp::v2::{Builder, Protocol, Type, Version};
    use proptest::prelude::*;
    use std::net::SocketAddr;

    /// The answer, and what is left for HTTP.
    fn read(mut bytes: &[u8]) -> (Result<Option<IpAddr>>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let told = runtime.block_on(source(&mut bytes));
        (told, bytes.to_vec())
    }

    fn header(from: &str, to: &str) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let begin = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (from, to));
        begin.write_tlv(Type::Authority, b"shop.example.com").unwrap().build().unwrap()
    }

    #[test]
    fn the_client_is_whom_the_load_balancer_names_and_nothing_behind_it_is_read() {
        for (from, to, expected) in [
            ("198.51.100.7:5000", "10.0.0.1:443", "198.51.100.7"),
            ("[2001:db8::7]:5000", "[2001:db8::1]:443", "2001:db8::7"),
            ("[::ffff:198.51.100.7]:5000", "[2001:db8::1]:443", "198.51.100.7"),
        ] {
            let mut bytes = header(from, to);
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            let (told, rest) = read(&bytes);
            assert_eq!(told.unwrap().unwrap().to_string(), expected);
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
    }

    #[test]
    fn a_health_check_and_an_unknown_family_name_nobody() {
        let mut local = header("198.51.100.7:1", "10.0.0.1:2");
        local[12] = 0x20;
        assert_eq!(read(&local).0.unwrap(), None);
        let empty = [ppp::v2::PROTOCOL_PREFIX, &[0x20, 0, 0, 0]].concat();
        assert_eq!(read(&empty).0.unwrap(), None);
        let unspecified = [ppp::v2::PROTOCOL_PREFIX, &[0x21, 0, 0, 3, 1, 2, 3], b"x"].concat();
        let (told, rest) = read(&unspecified);
        assert_eq!((told.unwrap(), rest.as_slice()), (None, b"x".as_slice()));
        let unix = [ppp::v2::PROTOCOL_PREFIX, &[0x21, 0x31, 0, 216], &[b'a'; 216]].concat();
        assert_eq!(read(&unix).0.unwrap(), None);
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        let good = header("198.51.100.7:1", "10.0.0.1:2");
        for cut in 0..good.len() {
            read(&good[..cut]).0.expect_err("it is not whole");
        }
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for bytes in [
            changed(0, b'G'),
            changed(11, b'\r'),
            changed(12, 0x11),
            changed(12, 0x22),
            changed(13, 0x41),
            changed(13, 0x1f),
            // Shorter than its addresses; longer than taken.
            changed(15, 11),
            [&changed(14, 0x08)[..], &[1; 4_096]].concat(),
            b"PROXY TCP4 198.51.100.7 10.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n".to_vec(),
        ] {
            read(&bytes).0.unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            as_header in any::<bool>(),
        ) {
            let bytes = if as_header { [ppp::v2::PROTOCOL_PREFIX, &bytes].concat() } else { bytes };
            let (told, rest) = read(&bytes);
            if told.is_ok() {
                let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
                prop_assert_eq!(rest.len(), bytes.len() - 16 - length, "exactly the header is read");
            }
        }

        #[test]
        fn every_address_comes_through(from in any::<[u8; 16]>(), v6 in any::<bool>(), tail in any::<[u8; 7]>()) {
            let v4: [u8; 4] = from[..4].try_into().unwrap();
            let ip: IpAddr = if v6 { from.into() } else { v4.into() };
            let to: IpAddr = if v6 { [1; 16].into() } else { [1; 4].into() };
            let bytes = [&header(&SocketAddr::new(ip, 1).to_string(), &SocketAddr::new(to, 2).to_string())[..], &tail].concat();
            let (told, rest) = read(&bytes);
            prop_assert_eq!(told.unwrap(), Some(ip.to_canonical()));
            prop_assert_eq!(rest, tail);
        }
    }
}
