//! The whole program, from a folder to a branch, before the stand-in and before the real server.

mod after_push;
mod bandwidth;
mod brake;
mod changes;
mod clock;
mod config;
mod costs;
mod crashes;
mod disks;
mod early;
mod escape;
mod folder;
mod fuse;
mod hard_cases;
mod histories;
mod hostile;
mod kills;
mod layout;
mod limits;
mod names;
mod network;
mod outage;
mod page;
mod page_key;
mod parts;
mod permissions;
mod priority;
mod proof;
mod push;
mod removals;
mod restore;
mod runs;
mod soak;
mod socket;
mod start;
mod status;
mod steer;
mod terminal;
mod tree;
mod trouble;
mod verify;
mod work;
mod writers;

/// The keys of a folder that is mirrored however much is removed at once.
const MIRROR_WITHOUT_BRAKE: &str = "on_delete = \"mirror\"\ndelete_brake.share = \"100%\"";

/// Runs each test on both servers.
macro_rules! on_both {
    ($($tests:tt)+) => { $crate::e2e::on_servers! { real; $($tests)+ } };
}

/// Runs each test on both servers with a gate before them, where faults can be made.
macro_rules! before_both {
    ($($tests:tt)+) => { $crate::e2e::on_servers! { real_behind_gate; $($tests)+ } };
}

macro_rules! on_servers {
    ($real:ident; $($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod on_standin {
            $($(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let site = $crate::support::site::Site::standin().await;
                super::$test(&std::sync::Arc::new(site)).await;
            })+
        }
        mod on_the_real_server {
            $($(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(site) = $crate::support::site::Site::$real().await {
                    super::$test(&std::sync::Arc::new(site)).await;
                }
            })+
        }
    };
}
use {before_both, on_both, on_servers};
