use super::*;
use proptest::prelude::*;

fn seconds(s: f64) -> Option<Duration> {
    Some(Duration::from_secs_f64(s))
}

fn stream(scores: &[f64]) -> Statistics {
    let mut pool = Pool::new(None);
    assert!(scores.iter().all(|&score| pool.push(None, score)));
    pool.stream().expect("scores")
}

fn close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{got} for {expected}");
}

/// numpy.percentile(scores, 100 * part)
fn percentile(scores: &[f64], part: f64) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    low + (high - low) * position.fract()
}

#[test]
fn statistics_by_hand() {
    // numpy.percentile([40, 10, 30, 20], [1, 5, 10, 50]) = [10.3, 11.5, 13, 25]
    let s = stream(&[40.0, 10.0, 30.0, 20.0]);
    assert_eq!((s.frames, s.mean, s.min, s.max), (4, 25.0, 10.0, 40.0));
    for (got, expected) in [(s.p1, 10.3), (s.p5, 11.5), (s.p10, 13.0), (s.p50, 25.0)] {
        close(got, expected, 1e-12);
    }
    // By Python: 4 / (1/41 + 1/11 + 1/31 + 1/21) - 1
    close(s.harmonic_mean, 19.494_276_141_281_59, 1e-12);
    let one = stream(&[55.5]);
    assert_eq!((one.mean, one.min, one.p1, one.p50), (55.5, 55.5, 55.5, 55.5));
    close(one.harmonic_mean, 55.5, 1e-12);
}

#[test]
fn scores_outside_are_kept_and_the_harmonic_mean_takes_them_as_zero() {
    let s = stream(&[-3.0, 104.0]);
    assert_eq!((s.mean, s.min, s.p50), (50.5, -3.0, 50.5));
    close(s.harmonic_mean, 2.0 / (1.0 + 1.0 / 105.0) - 1.0, 1e-12);
    assert_eq!(stream(&[-1.0]).harmonic_mean, 0.0);
}

#[test]
fn scores_that_are_not_finite_do_not_count() {
    let mut pool = Pool::new(seconds(1.0));
    for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(!pool.push(seconds(0.0), score));
    }
    assert_eq!((pool.stream(), pool.window()), (None, None));
    assert!(pool.push(seconds(0.0), 3.0));
    assert_eq!(pool.stream().expect("one").frames, 1);
}

#[test]
fn the_window_expires() {
    let mut pool = Pool::new(seconds(1.0));
    for frame in 0..100u32 {
        pool.push(Some(Duration::from_millis(40) * frame), f64::from(frame));
        let window = pool.window().expect("scores");
        assert_eq!(window.frames, u64::from(frame + 1).min(25), "one second of 25 frames a second");
        assert_eq!(window.min, f64::from(frame.saturating_sub(24)));
        assert_eq!(pool.window_mean(), Some(window.mean));
    }
    assert_eq!(pool.stream().expect("scores").frames, 100);
    pool.push(seconds(1000.0), 1.0);
    assert_eq!(pool.window().expect("one").frames, 1, "after a gap");
    pool.push(Some(Duration::MAX), 1.0);
    pool.reset();
    assert_eq!((pool.stream(), pool.window(), pool.window_mean()), (None, None, None));
    pool.push(seconds(0.5), 1.0);
    assert_eq!(pool.window().expect("one").frames, 1);
}

#[test]
fn seeks_and_missing_times() {
    let mut pool = Pool::new(seconds(1.0));
    pool.push(None, 1.0);
    assert_eq!(pool.window(), None, "no time is known");
    pool.push(seconds(10.0), 2.0);
    pool.push(None, 3.0);
    pool.push(seconds(10.5), 4.0);
    assert_eq!(pool.window().expect("three").frames, 3);
    pool.push(seconds(11.0), 5.0);
    assert_eq!(pool.window().expect("two").min, 4.0, "the one without a time went with the one before it");
    pool.push(seconds(2.0), 6.0);
    assert_eq!(pool.window().expect("one").min, 6.0, "a seek back");
    assert_eq!(pool.stream().expect("all").frames, 6);

    let mut zero = Pool::new(Some(Duration::ZERO));
    zero.push(seconds(1.0), 1.0);
    zero.push(seconds(1.0), 2.0);
    assert_eq!(zero.window().expect("newest").mean, 2.0);
    assert_eq!(Pool::new(None).window(), None);
}

#[test]
fn memory_is_bounded() {
    let mut pool = Pool::new(Some(Duration::MAX));
    for i in 0..EXACT_SCORES + 10 {
        pool.push(seconds(0.0), i as f64 / 1000.0);
    }
    assert_eq!(pool.window().expect("scores").frames, EXACT_SCORES as u64);
    assert_eq!(pool.window().expect("scores").min, 0.01, "the oldest went");
}

#[test]
fn the_histogram_takes_over_within_its_resolution() {
    let score = |i: usize| 100.0 * (0.5 + 0.5 * (i as f64 * 1.618).sin()).powi(2);
    let mut pool = Pool::new(None);
    let scores: Vec<f64> = (0..EXACT_SCORES + 40_000).map(score).collect();
    for (i, &score) in scores.iter().enumerate() {
        pool.push(None, score);
        if [EXACT_SCORES - 1, EXACT_SCORES, EXACT_SCORES + 1, scores.len() - 1].contains(&i) {
            let (s, all) = (pool.stream().expect("scores"), &scores[..=i]);
            let tolerance = if i < EXACT_SCORES { 1e-12 } else { 0.005 + 1e-9 };
            for (got, part) in [(s.p1, 0.01), (s.p5, 0.05), (s.p10, 0.1), (s.p50, 0.5)] {
                close(got, percentile(all, part), tolerance);
            }
            assert_eq!(s.frames, all.len() as u64);
            assert_eq!(s.min, all.iter().copied().fold(f64::INFINITY, f64::min));
            close(s.mean, all.iter().sum::<f64>() / all.len() as f64, 1e-9);
            let inverse = all.iter().map(|v| 1.0 / (v + 1.0)).sum::<f64>();
            close(s.harmonic_mean, all.len() as f64 / inverse - 1.0, 1e-9);
        }
    }
}

#[test]
fn a_histogram_of_scores_outside_stays_in_order() {
    for (low, high) in [(-9.0, -5.0), (103.0, 108.0), (-4.0, 104.0)] {
        let mut pool = Pool::new(None);
        for i in 0..=EXACT_SCORES {
            pool.push(None, if i % 2 == 0 { low } else { high });
        }
        let s = pool.stream().expect("scores");
        assert!(s.min <= s.p1 && s.p1 <= s.p5 && s.p5 <= s.p10 && s.p10 <= s.p50 && s.p50 <= high, "{s:?}");
    }
}

#[test]
fn statistics_serialise_by_their_names() {
    let json = serde_json::to_value(stream(&[1.0, 3.0])).expect("JSON");
    assert_eq!((&json["frames"], &json["mean"], &json["p50"]), (&2.into(), &2.0.into(), &2.0.into()));
    assert!(json["harmonic_mean"].is_number());
}

proptest! {
    #[test]
    fn statistics_are_in_order(scores in prop::collection::vec(0.0f64..100.0, 1..200)) {
        let s = stream(&scores);
        prop_assert!(s.min <= s.p1 && s.p1 <= s.p5 && s.p5 <= s.p10 && s.p10 <= s.p50, "{:?}", s);
        prop_assert!(s.harmonic_mean <= s.mean + 1e-9 && s.min <= s.harmonic_mean + 1e-9, "{:?}", s);
        for (got, part) in [(s.p1, 0.01), (s.p5, 0.05), (s.p10, 0.1), (s.p50, 0.5)] {
            prop_assert!((got - percentile(&scores, part)).abs() < 1e-9);
        }
    }

    #[test]
    fn any_times_and_scores_are_survived(
        pushes in prop::collection::vec((prop::option::of(any::<u64>()), any::<f64>()), 0..100),
        length: u64,
    ) {
        let mut pool = Pool::new(Some(Duration::from_nanos(length)));
        let mut counted = 0;
        for (time, score) in pushes {
            counted += u64::from(pool.push(time.map(Duration::from_nanos), score));
            prop_assert_eq!(pool.stream().map_or(0, |s| s.frames), counted);
            prop_assert!(pool.window().map_or(0, |s| s.frames) <= counted);
        }
    }
}
