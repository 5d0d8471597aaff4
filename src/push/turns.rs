//! Who goes first at a server: while a folder of a higher priority delivers, others begin no request that carries content.
//! What they have on its way comes to its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::pusher::Pusher;

/// Those who deliver to one server at this moment, counted by priority.
#[derive(Debug, Default)]
pub struct Turns(watch::Sender<BTreeMap<u8, usize>>);

/// A folder's rank among all that deliver to its server.
#[derive(Debug, Clone)]
pub struct Rank {
    turns: Arc<Turns>,
    priority: u8,
}

/// Someone delivers for as long as this lives.
#[derive(Debug)]
pub(super) struct Delivering(Rank);

impl Rank {
    /// The rank of a folder; a higher `priority` goes first.
    pub fn new(turns: Arc<Turns>, priority: u8) -> Self {
        Self { turns, priority }
    }

    /// Has all of lower priorities wait.
    pub(super) fn enter(&self) -> Delivering {
        self.turns.0.send_modify(|busy| *busy.entry(self.priority).or_default() += 1);
        Delivering(self.clone())
    }

    fn is_behind(&self) -> bool {
        is_behind(&self.turns.0.borrow(), self.priority)
    }

    /// Ends once nobody of a higher priority delivers.
    async fn first(&self) {
        // The sender lives as long as this rank.
        let _ = self.turns.0.subscribe().wait_for(|busy| !is_behind(busy, self.priority)).await;
    }
}

fn is_behind(busy: &BTreeMap<u8, usize>, priority: u8) -> bool {
    busy.last_key_value().is_some_and(|(highest, _)| *highest > priority)
}

impl Drop for Delivering {
    fn drop(&mut self) {
        let Self(Rank { turns, priority }) = self;
        turns.0.send_modify(|busy| {
            if let Some(count) = busy.get_mut(priority) {
                *count -= 1;
                if *count == 0 {
                    busy.remove(priority);
                }
            }
        });
    }
}

impl Pusher {
    /// Waits until it is this folder's turn to send content.
    pub(super) async fn turn(&self) {
        if !self.options.rank.is_behind() {
            return;
        }
        self.behind(true);
        self.options.rank.first().await;
        self.behind(false);
    }

    fn behind(&self, is_behind: bool) {
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.is_behind, is_behind) != is_behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn who_is_higher_goes_first_and_who_is_equal_goes_beside() {
        let turns = Arc::<Turns>::default();
        let [low, middle, high] = [1, 5, 9].map(|priority| Rank::new(Arc::clone(&turns), priority));
        assert!(low.first().now_or_never().is_some(), "nobody else is there");
        let delivering = (middle.enter(), middle.enter());
        assert!(low.is_behind() && !middle.is_behind() && !high.is_behind());
        let waits = low.first();
        let mut waits = std::pin::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(delivering.0);
        let higher = high.enter();
        drop(delivering.1);
        assert!(waits.as_mut().now_or_never().is_none() && middle.is_behind());
        drop(higher);
        assert!(waits.now_or_never().is_some() && !low.is_behind());
    }
}
