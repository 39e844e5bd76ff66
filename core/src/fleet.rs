//! How lanes are shared out among workers. Each worker asks this once a second for itself, from what the store says to
//! all: no one decides for another, and all come to the same shares.
//!
//! With every worker at its share nothing moves. When one comes or goes, each other gives back what is above its new share
//! and takes what nobody holds up to it: no lane moves that need not.

use std::collections::BTreeSet;

/// What a worker knows of the fleet.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, L> {
    /// All lanes, in the order in which every worker has them.
    pub lanes: &'a [L],
    /// Those that somebody holds, this worker included.
    pub held: &'a BTreeSet<L>,
    /// Those that this worker holds and is not giving back already.
    pub mine: &'a BTreeSet<L>,
    /// How many workers live.
    pub workers: usize,
    /// How many of them come before this one in the order of their ids.
    pub rank: usize,
}

/// What a worker is to do about its lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moves<L> {
    /// Take these. Another may be quicker: then look again.
    pub take: Vec<L>,
    /// Give these back.
    pub give_back: Vec<L>,
}

impl<L> Default for Moves<L> {
    fn default() -> Self {
        Self { take: Vec::new(), give_back: Vec::new() }
    }
}

/// How many lanes the worker of this rank holds when nothing is left to move: the shares of all differ by one at most, and
/// their sum is `lanes`.
pub fn share(lanes: usize, workers: usize, rank: usize) -> usize {
    let workers = workers.max(1);
    lanes / workers + usize::from(rank < lanes % workers)
}

/// Which lanes to take and which to give back.
pub fn moves<L: Ord + Clone>(view: &View<'_, L>) -> Moves<L> {
    let View { lanes, held, mine, workers, rank } = *view;
    let share = share(lanes.len(), workers, rank);
    // Where all begin at once, each begins with lanes of its own, and none is in another's way.
    let is_preferred = |place: usize| place % workers.max(1) == rank;
    let of = |preferred: bool, keep: &dyn Fn(&L) -> bool| -> Vec<L> {
        let chosen = lanes.iter().enumerate().filter(|(place, lane)| is_preferred(*place) == preferred && keep(lane));
        chosen.map(|(_, lane)| lane.clone()).collect()
    };
    let in_order = |first: bool, keep: &dyn Fn(&L) -> bool, count: usize| -> Vec<L> {
        let mut chosen = of(first, keep);
        chosen.extend(of(!first, keep));
        chosen.truncate(count);
        chosen
    };
    let (missing, surplus) = (share.saturating_sub(mine.len()), mine.len().saturating_sub(share));
    Moves {
        take: in_order(true, &|lane| !held.contains(lane) && !mine.contains(lane), missing),
        give_back: in_order(false, &|lane| mine.contains(lane), surplus),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Workers by their ids, and what each holds.
    #[derive(Clone, Debug, Default)]
    struct Fleet {
        lanes: Vec<u32>,
        workers: BTreeMap<u32, BTreeSet<u32>>,
        /// Of dead workers, not run out yet.
        orphaned: BTreeSet<u32>,
        moves: BTreeMap<u32, usize>,
    }

    impl Fleet {
        fn held(&self) -> BTreeSet<u32> {
            self.workers.values().flatten().chain(&self.orphaned).copied().collect()
        }

        /// One look of one worker at the fleet, as it was when `seen` was taken.
        fn look(&mut self, id: u32, seen: &BTreeSet<u32>) -> bool {
            let rank = self.workers.keys().position(|other| *other == id).unwrap();
            let (workers, mine) = (self.workers.len(), &self.workers[&id]);
            let decided = moves(&View { lanes: &self.lanes, held: seen, mine, workers, rank });
            let mut moved = false;
            for lane in decided.give_back {
                moved |= self.workers.get_mut(&id).unwrap().remove(&lane);
            }
            for lane in decided.take {
                // The store lets one alone have it.
                if !self.held().contains(&lane) {
                    self.workers.get_mut(&id).unwrap().insert(lane);
                    *self.moves.entry(lane).or_default() += 1;
                    moved = true;
                }
            }
            moved
        }

        /// Rounds of looks until nothing moves any more.
        fn settle(&mut self, stale: bool) -> usize {
            self.moves.clear();
            for round in 0.. {
                assert!(round < 50, "it does not come to rest: {self:?}");
                let seen = self.held();
                let ids: Vec<u32> = self.workers.keys().copied().collect();
                let looks = ids.into_iter().map(|id| {
                    let held = if stale { seen.clone() } else { self.held() };
                    self.look(id, &held)
                });
                if !looks.fold(false, |any, moved| any | moved) {
                    return round;
                }
            }
            unreachable!()
        }

        fn check(&self) {
            let (lanes, workers) = (self.lanes.len(), self.workers.len());
            let free = lanes - self.held().len();
            assert_eq!(self.workers.values().map(BTreeSet::len).sum::<usize>() + free + self.orphaned.len(), lanes);
            if workers > 0 && self.orphaned.is_empty() {
                assert_eq!(free, 0, "a lane is left without an owner: {self:?}");
                let (floor, ceil) = (lanes / workers, lanes.div_ceil(workers));
                assert!(self.workers.values().all(|mine| (floor..=ceil).contains(&mine.len())), "{self:?}");
            }
            assert!(self.moves.values().all(|moves| *moves <= 1), "a lane moved twice: {self:?}");
        }
    }

    #[derive(Clone, Debug)]
    enum Change {
        Comes(u32),
        Dies(usize),
        Leaves(usize),
        LeasesEnd,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => any::<u32>().prop_map(Change::Comes),
            2 => any::<usize>().prop_map(Change::Dies),
            1 => any::<usize>().prop_map(Change::Leaves),
            1 => Just(Change::LeasesEnd),
        ]
    }

    proptest! {
        #[test]
        fn whoever_comes_or_goes_all_lanes_are_soon_shared_out_evenly_and_none_moves_twice(
            lanes in 1u32..40, changes in prop::collection::vec(change(), 1..12), stale: bool,
        ) {
            let mut fleet = Fleet { lanes: (0..lanes).collect(), ..Fleet::default() };
            for change in changes {
                let nth = |fleet: &Fleet, n: usize| {
                    let ids: Vec<u32> = fleet.workers.keys().copied().collect();
                    (!ids.is_empty()).then(|| ids[n % ids.len()])
                };
                match change {
                    Change::Comes(id) => _ = fleet.workers.entry(id).or_default(),
                    Change::Dies(n) => {
                        if let Some(id) = nth(&fleet, n) {
                            let left = fleet.workers.remove(&id).unwrap();
                            fleet.orphaned.extend(left);
                        }
                    }
                    Change::Leaves(n) => {
                        if let Some(id) = nth(&fleet, n) {
                            fleet.workers.remove(&id);
                        }
                    }
                    Change::LeasesEnd => fleet.orphaned.clear(),
                }
                fleet.settle(stale);
                fleet.check();
            }
            fleet.orphaned.clear();
            fleet.settle(stale);
            fleet.check();
            // At rest it stays at rest.
            assert_eq!(fleet.settle(stale), 0);
        }

        #[test]
        fn the_shares_add_up(lanes in 0usize..1000, workers in 1usize..100) {
            let shares: Vec<usize> = (0..workers).map(|rank| share(lanes, workers, rank)).collect();
            prop_assert_eq!(shares.iter().sum::<usize>(), lanes);
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }

        #[test]
        fn workers_that_begin_at_once_are_in_nobodys_way(lanes in 1u32..60, workers in 1usize..20) {
            let lanes: Vec<u32> = (0..lanes).collect();
            let nothing = BTreeSet::new();
            let mut taken = BTreeSet::new();
            for rank in 0..workers {
                let view = View { lanes: &lanes, held: &nothing, mine: &nothing, workers, rank };
                prop_assert!(moves(&view).take.into_iter().all(|lane| taken.insert(lane)));
            }
            prop_assert_eq!(taken.len(), lanes.len());
        }
    }

    #[test]
    fn a_lane_that_is_not_in_the_list_is_nobodys_business() {
        let (held, mine) = (BTreeSet::from([9, 1]), BTreeSet::from([1]));
        let view = View { lanes: &[1, 2, 3], held: &held, mine: &mine, workers: 1, rank: 0 };
        assert_eq!(moves(&view), Moves { take: vec![2, 3], give_back: vec![] });
    }
}
