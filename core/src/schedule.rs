//! The schedule: which transfer is meant to arrive when.
//!
//! Phases are Artillery's. Counting is exact: rates are rounded once, to a millionth of a transfer a second,
//! and from there on everything is integers, so that neither the length of a run nor the number of generators
//! makes a transfer appear or vanish. This module does not wait and knows no clock.

use crate::plan::{Arrivals, Phase};

/// One transfer's place in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number in the whole run, from 0. Every number belongs to exactly one generator.
    pub n: u64,
    /// The index of its phase.
    pub phase: u16,
    /// When it is meant to arrive, in nanoseconds since the load's start.
    pub intended_ns: u64,
}

/// The phases of a load, laid end to end.
///
/// Within a phase let `A(t)` be the integral of the rate. Transfer `k` of the phase (from 0) arrives when
/// `A(t) = k`, thus the first at the phase's start, and the phase holds `floor(A(duration))` transfers.
#[derive(Clone, Debug)]
pub struct Schedule {
    phases: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    curve: Curve,
    start_ms: u64,
    first: u64,
    total: u64,
}

/// The integral of a phase's rate: linear in each segment, known exactly at their ends. `unit` is one transfer.
#[derive(Clone, Copy, Debug)]
struct Curve {
    duration_ms: u64,
    unit: u128,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// One segment of this many units a millisecond.
    Even(u128),
    /// Segments of a second (the last may be shorter): segment `t` has `first + t * step` units a millisecond.
    Steps { first: i128, step: i128 },
}

const MICRO: u128 = 1_000_000;
const MS_PER_S: u128 = 1_000;
const NS_PER_MS: u128 = 1_000_000;

fn micros(rate: f64) -> u128 {
    // Float-to-integer casts saturate: a rate that is no number or below zero offers nothing.
    (rate * MICRO as f64).round() as u128
}

impl Curve {
    fn new(phase: &Phase) -> Self {
        let duration_ms = phase.duration_ms;
        let even = |unit, per_ms| Self { duration_ms, unit, shape: Shape::Even(per_ms) };
        match phase.arrivals {
            Arrivals::Pause => even(1, 0),
            // k * duration / count: the unit is stretched instead of the rate, which stays a whole number.
            Arrivals::Count(count) => even(u128::from(duration_ms), u128::from(count)),
            Arrivals::Rate(rate) => even(MICRO * MS_PER_S, micros(rate)),
            Arrivals::Ramp { from, to } => {
                let (from, to) = (micros(from), micros(to));
                let steps = duration_ms.div_ceil(1_000);
                if steps <= 1 {
                    // The formula below divides by zero; Artillery takes the mean here.
                    return even(2 * MICRO * MS_PER_S, from + to);
                }
                let spans = u128::from(steps - 1);
                let (first, step) = ((from * spans) as i128, to as i128 - from as i128);
                Self { duration_ms, unit: spans * MICRO * MS_PER_S, shape: Shape::Steps { first, step } }
            }
        }
    }

    fn segments(&self) -> u64 {
        match self.shape {
            Shape::Even(_) => 1,
            Shape::Steps { .. } => self.duration_ms.div_ceil(1_000),
        }
    }

    /// Start of segment `t` in milliseconds, and the integral up to there.
    fn at(&self, t: u64) -> (u64, u128) {
        match self.shape {
            Shape::Even(per_ms) => {
                let ms = if t == 0 { 0 } else { self.duration_ms };
                (ms, per_ms * u128::from(ms))
            }
            Shape::Steps { first, step } => {
                let start = |t: i128| 1_000 * (first * t + step * (t * (t - 1) / 2));
                let t_wide = i128::from(t);
                if t < self.segments() {
                    return (t * 1_000, start(t_wide) as u128);
                }
                let last = t_wide - 1;
                let rest_ms = i128::from(self.duration_ms) - last * 1_000;
                (self.duration_ms, (start(last) + (first + last * step) * rest_ms) as u128)
            }
        }
    }

    fn total(&self) -> u64 {
        u64::try_from(self.at(self.segments()).1 / self.unit).unwrap_or(u64::MAX)
    }

    /// The segment that holds transfer `k`, by bisection.
    fn segment_of(&self, k: u64) -> u64 {
        let wanted = u128::from(k) * self.unit;
        let (mut low, mut high) = (0, self.segments().saturating_sub(1));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(middle + 1).1 <= wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Nanoseconds after the phase's start at which transfer `k` arrives; `segment` is where the search starts
    /// and where it ended.
    fn arrival_ns(&self, k: u64, segment: &mut u64) -> u64 {
        let wanted = u128::from(k) * self.unit;
        let (mut from, mut to) = (self.at(*segment), self.at(*segment + 1));
        while to.1 <= wanted && *segment + 1 < self.segments() {
            *segment += 1;
            from = to;
            to = self.at(*segment + 1);
        }
        let length_ns = u128::from(to.0 - from.0) * NS_PER_MS;
        let within = (wanted - from.1) * length_ns / (to.1 - from.1).max(1);
        (u128::from(from.0) * NS_PER_MS + within) as u64
    }
}

/// Where a load stands that began at `start_unix_ns` and is resumed at `now_unix_ns`, in nanoseconds since its start:
/// never before `known_ns`, the latest moment that it recorded, however the wall clock was set meanwhile.
pub fn resumed_at(start_unix_ns: u64, now_unix_ns: u64, known_ns: u64) -> u64 {
    now_unix_ns.saturating_sub(start_unix_ns).max(known_ns)
}

/// The highest steady `arrivalRate`: what the run aims at. Where no phase is steady, the highest rate of any.
pub fn target_rate(phases: &[Phase]) -> f64 {
    let highest = |rates: &mut dyn Iterator<Item = f64>| rates.reduce(f64::max);
    let steady = |phase: &Phase| match phase.arrivals {
        Arrivals::Rate(rate) => Some(rate),
        _ => None,
    };
    let any = |phase: &Phase| match phase.arrivals {
        Arrivals::Rate(rate) => rate,
        Arrivals::Ramp { from, to } => from.max(to),
        Arrivals::Count(count) => count as f64 * 1_000.0 / phase.duration_ms.max(1) as f64,
        Arrivals::Pause => 0.0,
    };
    highest(&mut phases.iter().filter_map(steady)).or_else(|| highest(&mut phases.iter().map(any))).unwrap_or(0.0)
}

impl Schedule {
    /// Lays `phases` end to end, from the load's start.
    pub fn new(phases: &[Phase]) -> Self {
        let (mut start_ms, mut first) = (0, 0);
        let phases = phases
            .iter()
            .map(|phase| {
                let curve = Curve::new(phase);
                let slot = Slot { curve, start_ms, first, total: curve.total() };
                start_ms += phase.duration_ms;
                first += slot.total;
                slot
            })
            .collect();
        Self { phases }
    }

    /// Transfers in all.
    pub fn total(&self) -> u64 {
        self.phases.last().map_or(0, |last| last.first + last.total)
    }

    /// Transfers of each phase.
    pub fn phase_totals(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.phases.iter().map(|slot| slot.total)
    }

    /// Start and end of each phase, in nanoseconds since the load's start.
    pub fn phase_bounds(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + DoubleEndedIterator + '_ {
        self.phases.iter().map(|slot| {
            let (start, end) = (slot.start_ms, slot.start_ms + slot.curve.duration_ms);
            (start * NS_PER_MS as u64, end * NS_PER_MS as u64)
        })
    }

    /// The index of the phase under way at `at_ns`; after the load's end, the last one.
    pub fn phase_at(&self, at_ns: u64) -> usize {
        self.phase_bounds().rposition(|(start, _)| start <= at_ns).unwrap_or(0)
    }

    /// The length of the load, pauses included, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.phase_bounds().last().map_or(0, |(_, end)| end)
    }

    /// How many transfers are meant to have arrived before `at_ns`.
    pub fn offered_before(&self, at_ns: u64) -> u64 {
        let Some(phase) = self.phases.iter().rposition(|slot| slot.start_ms * (NS_PER_MS as u64) < at_ns) else {
            return 0;
        };
        let slot = &self.phases[phase];
        let since = at_ns - slot.start_ms * NS_PER_MS as u64;
        let (mut low, mut high) = (0, slot.total);
        while low < high {
            let middle = low + (high - low) / 2;
            if slot.curve.arrival_ns(middle, &mut slot.curve.segment_of(middle)) < since {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        slot.first + low
    }

    /// The index of the phase under way at `at_ns`; `None` once the load is over.
    pub fn under_way(&self, at_ns: u64) -> Option<usize> {
        (at_ns < self.duration_ns()).then(|| self.phase_at(at_ns))
    }

    /// The index of the longest phase that offers anything, the first of equals: its numbers are the run's.
    /// 0 where no phase offers anything.
    pub fn longest_phase(&self) -> usize {
        let longest = self.phases.iter().enumerate().rev().filter(|(_, slot)| slot.total > 0);
        longest.max_by_key(|(_, slot)| slot.curve.duration_ms).map_or(0, |(index, _)| index)
    }

    /// Arrival `n`; `None` past the schedule's end.
    pub fn arrival(&self, n: u64) -> Option<Arrival> {
        Share { schedule: self, next: n, stride: 1, phase: 0, segment: 0 }.next()
    }

    /// The share of generator `generator` among `generators`: every `generators`-th transfer, in order of time.
    /// Lazy, and of fixed size however long the run. Nothing where `generator >= generators`.
    pub fn arrivals(&self, generator: u32, generators: u32) -> Share<'_> {
        let mine = generator < generators;
        Share {
            schedule: self,
            next: if mine { u64::from(generator) } else { u64::MAX },
            stride: u64::from(generators),
            phase: 0,
            segment: 0,
        }
    }
}

/// One generator's arrivals, in order of time.
#[derive(Clone, Debug)]
pub struct Share<'a> {
    schedule: &'a Schedule,
    next: u64,
    stride: u64,
    phase: usize,
    segment: u64,
}

impl Iterator for Share<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let n = self.next;
        let slot = loop {
            let slot = self.schedule.phases.get(self.phase)?;
            if n < slot.first + slot.total {
                break slot;
            }
            self.phase += 1;
            self.segment = 0;
        };
        self.next = n.saturating_add(self.stride);
        let start_ns = slot.start_ms * NS_PER_MS as u64;
        let intended_ns = start_ns + slot.curve.arrival_ns(n - slot.first, &mut self.segment);
        Some(Arrival { n, phase: self.phase as u16, intended_ns })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn phase(duration_ms: u64, arrivals: Arrivals) -> Phase {
        Phase { name: "phase".into(), duration_ms, arrivals, max_vusers: None }
    }

    fn all(schedule: &Schedule) -> Vec<Arrival> {
        schedule.arrivals(0, 1).collect()
    }

    #[test]
    fn the_780_second_profile_offers_exactly_136_200_transfers_to_the_last_nanosecond() {
        let phases = [
            phase(120_000, Arrivals::Ramp { from: 50.0, to: 150.0 }),
            phase(600_000, Arrivals::Rate(202.0)),
            phase(60_000, Arrivals::Rate(50.0)),
        ];
        let schedule = Schedule::new(&phases);
        assert_eq!(schedule.phase_totals().collect::<Vec<_>>(), [12_000, 121_200, 3_000]);
        assert_eq!(schedule.total(), 136_200);
        assert_eq!(target_rate(&phases), 202.0);
        assert_eq!(schedule.longest_phase(), 1);
        assert_eq!(schedule.duration_ns(), 780_000_000_000);
        let last = schedule.arrivals(0, 1).last().unwrap();
        assert_eq!((last.n, last.phase, last.intended_ns), (136_199, 2, 779_980_000_000));
    }

    #[test]
    fn a_steady_rate_arrives_at_start_plus_n_over_rate() {
        let schedule = Schedule::new(&[phase(1_000, Arrivals::Pause), phase(3_000, Arrivals::Rate(3.0))]);
        let times: Vec<u64> = all(&schedule).iter().map(|a| a.intended_ns).collect();
        assert_eq!(times[..4], [1_000_000_000, 1_333_333_333, 1_666_666_666, 2_000_000_000]);
        assert_eq!(times.len(), 9);
    }

    #[test]
    fn an_arrival_is_found_by_its_number() {
        let schedule = Schedule::new(&[
            phase(5_000, Arrivals::Ramp { from: 10.0, to: 30.0 }),
            phase(1_000, Arrivals::Pause),
            phase(2_000, Arrivals::Rate(7.0)),
        ]);
        for arrival in all(&schedule) {
            assert_eq!(schedule.arrival(arrival.n), Some(arrival));
        }
        assert_eq!(schedule.arrival(schedule.total()), None);
    }

    #[test]
    fn a_ramp_steps_once_a_second_as_artillery_does() {
        let schedule = Schedule::new(&[phase(5_000, Arrivals::Ramp { from: 10.0, to: 30.0 })]);
        let mut seconds = [0; 5];
        for arrival in all(&schedule) {
            seconds[(arrival.intended_ns / 1_000_000_000) as usize] += 1;
        }
        assert_eq!(seconds, [10, 15, 20, 25, 30]);
    }

    #[test]
    fn a_ramp_down_to_zero_leaves_its_last_second_empty() {
        let schedule = Schedule::new(&[phase(3_000, Arrivals::Ramp { from: 20.0, to: 0.0 })]);
        assert_eq!(schedule.total(), 30);
        assert!(all(&schedule).iter().all(|a| a.intended_ns < 2_000_000_000));
    }

    #[test]
    fn a_ramp_of_one_second_takes_the_mean() {
        assert_eq!(Schedule::new(&[phase(1_000, Arrivals::Ramp { from: 10.0, to: 25.0 })]).total(), 17);
    }

    #[test]
    fn a_count_is_spread_evenly_over_its_phase() {
        let schedule = Schedule::new(&[phase(60_000, Arrivals::Count(20))]);
        let times: Vec<u64> = all(&schedule).iter().map(|a| a.intended_ns / 1_000_000_000).collect();
        assert_eq!(times, (0..20).map(|k| k * 3).collect::<Vec<_>>());
    }

    #[test]
    fn the_target_of_a_load_without_a_steady_phase_is_its_highest_rate() {
        assert_eq!(target_rate(&[phase(9_000, Arrivals::Ramp { from: 9.0, to: 4.0 })]), 9.0);
        assert_eq!(target_rate(&[phase(10_000, Arrivals::Count(20))]), 2.0);
    }

    #[test]
    fn a_load_is_resumed_by_the_wall_clock_and_never_before_what_it_recorded() {
        let (start, second) = (1_700_000_000_000_000_000, 1_000_000_000);
        for (now, known, at, why) in [
            (start + 30 * second, 12 * second, 30 * second, "it was away for 18 seconds"),
            (start + 12 * second, 12 * second, 12 * second, "it was not away"),
            (start + 5 * second, 12 * second, 12 * second, "the clock was set back into the load"),
            (start - 3_600 * second, 12 * second, 12 * second, "the clock was set back to before the load"),
            (start - second, 0, 0, "likewise, and nothing was recorded"),
            (0, 12 * second, 12 * second, "the clock begins anew"),
            (start + 86_400 * second, 12 * second, 86_400 * second, "the clock was set forward by a day"),
            (u64::MAX, 0, u64::MAX - start, "the end of all clocks"),
        ] {
            assert_eq!(resumed_at(start, now, known), at, "{why}");
        }
    }

    #[test]
    fn a_long_pause_is_not_the_longest_phase() {
        let phases =
            [phase(1_000, Arrivals::Rate(1.0)), phase(9_000, Arrivals::Pause), phase(1_000, Arrivals::Rate(2.0))];
        assert_eq!(Schedule::new(&phases).longest_phase(), 0);
    }

    fn any_phase() -> impl Strategy<Value = Phase> {
        let rate = || prop_oneof![Just(0.0), 0.001..400.0, (0u32..400).prop_map(f64::from)];
        let arrivals = prop_oneof![
            rate().prop_map(Arrivals::Rate),
            (rate(), rate()).prop_map(|(from, to)| Arrivals::Ramp { from, to }),
            (0u64..2_000).prop_map(Arrivals::Count),
            Just(Arrivals::Pause),
        ];
        let duration = prop_oneof![Just(1_000), (1u64..12).prop_map(|s| s * 1_000), 1u64..12_000];
        (duration, arrivals).prop_map(|(ms, arrivals)| phase(ms, arrivals))
    }

    proptest! {
        #[test]
        fn every_transfer_belongs_to_exactly_one_generator(
            phases in prop::collection::vec(any_phase(), 1..5),
            generators in 1u32..=64,
        ) {
            let schedule = Schedule::new(&phases);
            let whole = all(&schedule);
            let mut split: Vec<Arrival> = (0..generators).flat_map(|i| schedule.arrivals(i, generators)).collect();
            split.sort_by_key(|a| a.n);
            prop_assert_eq!(&split, &whole);
            prop_assert_eq!(whole.len() as u64, schedule.total());
            let shares = (0..generators).map(|i| schedule.arrivals(i, generators).count());
            let (least, most) = (shares.clone().min(), shares.max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1);
        }

        #[test]
        fn arrivals_are_in_order_and_within_their_phase(phases in prop::collection::vec(any_phase(), 1..5)) {
            let schedule = Schedule::new(&phases);
            let bounds: Vec<_> = schedule.phase_bounds().collect();
            let mut totals = vec![0; phases.len()];
            let mut before = 0;
            for (n, arrival) in schedule.arrivals(0, 1).enumerate() {
                let (start, end) = bounds[usize::from(arrival.phase)];
                prop_assert_eq!(arrival.n, n as u64);
                prop_assert!(before <= arrival.intended_ns);
                prop_assert!(start <= arrival.intended_ns && arrival.intended_ns < end);
                totals[usize::from(arrival.phase)] += 1;
                before = arrival.intended_ns;
            }
            prop_assert_eq!(totals, schedule.phase_totals().collect::<Vec<u64>>());
        }

        #[test]
        fn totals_agree_with_the_sum_of_the_rates(phase in any_phase()) {
            let seconds = phase.duration_ms as f64 / 1_000.0;
            let steps = seconds.ceil();
            let expected = match phase.arrivals {
                Arrivals::Pause => 0.0,
                Arrivals::Count(count) => count as f64,
                Arrivals::Rate(rate) => rate * seconds,
                Arrivals::Ramp { from, to } if steps <= 1.0 => (from + to) / 2.0 * seconds,
                Arrivals::Ramp { from, to } => (0..steps as u32)
                    .map(|t| (from + (to - from) * f64::from(t) / (steps - 1.0)) * (seconds - f64::from(t)).min(1.0))
                    .sum(),
            };
            let total = Schedule::new(&[phase]).total() as f64;
            prop_assert!((expected - total) > -0.001 && (expected - total) < 1.001, "{} and {}", expected, total);
        }

        /// What is offered after a resumption arrives after all that was recorded before it, so that no transfer of the
        /// schedule is offered twice, whatever the wall clock says; and a clock that went right loses none that is due.
        #[test]
        fn a_resumed_load_offers_nothing_again(
            phases in prop::collection::vec(any_phase(), 1..5),
            start in 0u64..1 << 62, now in 0u64..1 << 63, known in 0u64..60_000_000_000,
        ) {
            let schedule = Schedule::new(&phases);
            let at = resumed_at(start, now, known);
            prop_assert!(at >= known);
            let sent = schedule.arrivals(0, 1).take_while(|a| a.intended_ns < known).count();
            let left: Vec<_> = schedule.arrivals(0, 1).skip_while(|a| a.intended_ns < at).collect();
            prop_assert!(left.first().is_none_or(|first| first.n >= sent as u64));
            if now >= start && now - start >= known {
                prop_assert_eq!(at, now - start);
            }
            prop_assert_eq!(schedule.total() - left.len() as u64, schedule.offered_before(at));
        }

        #[test]
        fn what_was_offered_before_a_time_is_what_arrived_before_it(
            phases in prop::collection::vec(any_phase(), 1..5),
            at_ns in 0u64..60_000_000_000,
        ) {
            let schedule = Schedule::new(&phases);
            let arrived = schedule.arrivals(0, 1).take_while(|a| a.intended_ns < at_ns).count();
            prop_assert_eq!(schedule.offered_before(at_ns), arrived as u64);
        }
    }
}
