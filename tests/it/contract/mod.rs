//! What the API does, checked on the stand-in and on the real server alike. Where these tests pass on both, the
//! stand-in may stand in.

mod place;
mod put;
mod read;
mod tree;
mod upload;
mod workspace;

/// Runs each test on both servers.
macro_rules! contract {
    ($($test:ident),+ $(,)?) => {
        mod on_standin {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&$crate::support::site::Site::standin().await).await;
            })+
        }
        mod on_the_real_server {
            $(#[tokio::test]
            async fn $test() {
                if let Some(site) = $crate::support::site::Site::real().await {
                    super::$test(&site).await;
                }
            })+
        }
    };
}
use contract;

/// "hello" in gzip, as one block that is not compressed.
const GZIP_OF_HELLO: &[u8] = &[
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, 5, 0, 250, 255, b'h', b'e', b'l', b'l', b'o', 0x86, 0xa6, 0x10,
    0x36, 5, 0, 0, 0,
];
