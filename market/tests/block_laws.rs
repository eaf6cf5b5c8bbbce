//! Laws of blocks: what is encoded comes back, and any other bytes give an error, not a panic and not a wrong answer.

use market::block::{
    Core, Header, Kind, PAGE, check_block, decode_core, decode_page, decode_seq, encode, encode_session, pack_payload,
    unpack_payload,
};
use market::time::MINUTE;
use market::{
    Bar, Class, Digest, Merge, MinuteBar, NONE_I64, Trade, Trades, decode_minutes, digest, encode_minutes, merge, money,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use xxhash_rust::xxh3::xxh3_64;

/// Values as sources have them: coarse, fine, equal, absent and wild.
fn price() -> impl Strategy<Value = i64> {
    prop_oneof![
        (0i64..40_000).prop_map(|ticks| ticks * 250_000_000),
        (-4_000i64..4_000).prop_map(|ticks| ticks * 10_000_000),
        Just(100_000_000_000),
        any::<i64>(),
    ]
}

fn trade() -> impl Strategy<Value = Trade> {
    let ts = prop_oneof![4 => (0i64..3600).prop_map(|s| s * 1_000_000_000), 2 => 0..i64::MAX, 1 => any::<i64>()];
    let size = prop_oneof![4 => (0i64..100).prop_map(|lots| lots * money::ONE), 1 => 0..=i64::MAX];
    let seq = prop_oneof![0i64..50, any::<i64>()];
    let flags = prop_oneof![4 => Just(0u32), 1 => select(vec![16u32, 32, 512, 4096]), 1 => any::<u32>()];
    let recv = prop_oneof![2 => Just(NONE_I64), 1 => Just(0), 1 => any::<i64>()];
    let id = prop_oneof![Just(NONE_I64), Just(-1), any::<i64>()];
    (ts, seq, 0i32..3, price(), size, flags, any::<u8>(), recv, id).prop_map(
        |(ts, seq, sub, price, size, flags, cond, recv, id)| Trade {
            ts,
            seq,
            sub,
            price,
            size,
            flags,
            cond: u32::from(cond),
            // Zero stands for received when it happened, -1 for an id that is the sequence.
            ts_recv: if recv == 0 { ts } else { recv },
            trade_id: if id == -1 { seq } else { id },
        },
    )
}

/// Sorted, each identity once.
fn trades(most: usize) -> impl Strategy<Value = Trades> {
    vec(trade(), 1..most).prop_map(|list| {
        let by_key: std::collections::BTreeMap<_, _> = list.into_iter().map(|trade| (trade.key(), trade)).collect();
        by_key.into_values().collect()
    })
}

fn minutes() -> impl Strategy<Value = Vec<MinuteBar>> {
    let bar = (price(), 0i64..1000, 0i64..1000, 0i64..i64::MAX, any::<i64>(), 0i64..100, any::<u8>());
    let bar = bar.prop_map(|(price, up, down, volume, notional, trades, kind)| {
        let low = price.saturating_sub(down);
        let flat = Bar { low, high: price.saturating_add(up), ..Bar::flat(price) };
        let flat = match kind % 4 {
            0 => Bar { open: 0, close: 0, high: i64::MIN, low: i64::MAX, ..flat },
            1 => Bar { close: low, priced: 1, weak_close: kind > 128, ..flat },
            2 => Bar { open: 0, close: 0, ..flat },
            _ => Bar { open: low, priced: trades + 1, ..flat },
        };
        let wide = if kind % 8 == 0 { i128::MAX / 3 } else { 1 };
        Bar { volume: i128::from(volume), notional: i128::from(notional).wrapping_mul(wide), trades, ..flat }
    });
    vec((0i64..500, 0u8..3, bar), 0..60).prop_map(|list| {
        let by_key: std::collections::BTreeMap<_, _> =
            list.into_iter().map(|(at, class, bar)| ((at, class), bar)).collect();
        let row = |((at, class), bar): ((i64, u8), Bar)| MinuteBar {
            minute: at * MINUTE,
            class: Class::from_u8(class).unwrap_or_default(),
            bar,
        };
        by_key.into_iter().map(row).collect()
    })
}

fn decoded(block: &[u8]) -> Trades {
    let mut all = Trades::new();
    check_block(block, &mut all).expect("what was encoded");
    all
}

/// Reads the bytes in every way there is. Wrong answers show as trades that no block could hold.
fn read_all_ways(bytes: &[u8]) {
    let _ = unpack_payload(bytes);
    let mut minutes = Vec::new();
    if decode_minutes(bytes, &mut minutes).is_err() {
        assert!(minutes.is_empty());
    }
    let mut trades = Trades::new();
    match check_block(bytes, &mut trades) {
        Ok(header) => assert!(trades.len() == header.n && trades.is_strictly_sorted()),
        Err(_) => assert!(trades.is_empty()),
    }
    let Ok(header) = Header::parse(bytes) else { return };
    let mut core = Core::new();
    for page in 0..header.pages.len() + 1 {
        if let Ok(n) = decode_core(bytes, &header, page, &mut core) {
            assert!(n <= PAGE && core.ts.len() == n && core.price.len() == n && core.size.len() == n);
            assert!(core.ts.is_sorted());
        }
        let mut seq = Vec::new();
        if decode_seq(bytes, &header, page, &mut core, &mut seq).is_ok() {
            assert!(seq.len() <= PAGE);
        }
        let before = trades.len();
        if decode_page(bytes, &header, page, &mut trades).is_err() {
            assert_eq!((trades.len(), trades.trade_id.len(), trades.sub.len()), (before, before, before));
        }
    }
}

/// Makes the checksums right again, so that damage gets past them. Follows the format's description, not its code.
fn with_right_checksums(mut block: Vec<u8>) -> Vec<u8> {
    let u32_at = |block: &[u8], at: usize| {
        block
            .get(at..at + 4)
            .and_then(|field| field.try_into().ok())
            .map_or(0, |field| u32::from_le_bytes(field) as usize)
    };
    if block.len() < 64 {
        return block;
    }
    let (columns, core_columns) = (usize::from(block[6]), usize::from(block[7]));
    let pages = (u32_at(&block, 12) & 0xffff).min(64);
    let head = 64 + pages * (64 + 4 * columns);
    let (mut core_at, mut ids_at) = (head, head + u32_at(&block, 20));
    for page in 0..pages {
        let entry = 64 + page * (64 + 4 * columns);
        let len = |block: &[u8], columns: std::ops::Range<usize>| -> usize {
            columns.map(|column| u32_at(block, entry + 64 + 4 * column) & 0xfff_ffff).sum()
        };
        let core_end = core_at.saturating_add(len(&block, 0..core_columns));
        let ids_end = ids_at.saturating_add(len(&block, core_columns..columns));
        for (place, zone) in [(entry + 48, core_at..core_end), (entry + 56, ids_at..ids_end)] {
            let sum = block.get(zone).map_or(0, xxh3_64);
            if let Some(field) = block.get_mut(place..place + 8) {
                field.copy_from_slice(&sum.to_le_bytes());
            }
        }
        (core_at, ids_at) = (core_end, ids_end);
    }
    block[56..64].fill(0);
    let head = head.min(block.len());
    let sum = xxh3_64(&block[..head]);
    block[56..64].copy_from_slice(&sum.to_le_bytes());
    block
}

/// What happens to a block on a bad day.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Set(Index, Vec<u8>),
    Cut(Index),
    Add(Vec<u8>),
    Swap(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Set(at, bytes)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => vec(any::<u8>(), 1..30).prop_map(Damage::Add),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

fn damaged(mut block: Vec<u8>, list: &[Damage]) -> Vec<u8> {
    for damage in list {
        if block.is_empty() {
            break;
        }
        let n = block.len();
        match damage {
            Damage::Flip(at, bit) => block[at.index(n)] ^= 1 << bit,
            Damage::Set(at, bytes) => block.iter_mut().skip(at.index(n)).zip(bytes).for_each(|(to, from)| *to = *from),
            Damage::Cut(at) => block.truncate(at.index(n)),
            Damage::Add(bytes) => block.extend_from_slice(bytes),
            Damage::Swap(a, b) => block.swap(a.index(n), b.index(n)),
        }
    }
    block
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn block_round_trips(trades in trades(300)) {
        let block = encode(&trades, 0..trades.len()).expect("sorted trades");
        prop_assert_eq!(&decoded(&block), &trades);
        let header = Header::parse(&block[..block.len().min(Header::MAX_PREFIX)]).expect("a header");
        prop_assert_eq!((header.kind, header.n, header.len), (Kind::Trades, trades.len(), block.len()));
        prop_assert_eq!((header.first, header.last), (trades.key(0), trades.key(trades.len() - 1)));
        // Bars need the prefix alone.
        let mut core = Core::new();
        decode_core(&block[..header.core_end], &header, 0, &mut core).expect("the core");
        let nanos = |values: &[i64], unit: i64| values.iter().map(|value| value * unit).collect::<Vec<_>>();
        prop_assert_eq!(nanos(&core.price, core.price_unit), trades.price.clone());
        prop_assert_eq!(nanos(&core.size, core.size_unit), trades.size.clone());
        prop_assert_eq!(&core.ts, &trades.ts);
        prop_assert!(core.flags.is_empty() || core.flags == trades.flags);
        let mut seq = Vec::new();
        decode_seq(&block, &header, 0, &mut core, &mut seq).expect("the sequences");
        prop_assert_eq!((&seq, &core.ts), (&trades.seq, &trades.ts));
    }

    #[test]
    fn minute_blocks_round_trip(minutes in minutes()) {
        let block = encode_minutes(&minutes).expect("sorted minutes");
        let mut again = Vec::new();
        decode_minutes(&block, &mut again).expect("what was encoded");
        prop_assert_eq!(again, minutes);
    }

    #[test]
    fn digest_does_not_depend_on_paging(trades in trades(100), cuts in vec(any::<Index>(), 0..5)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(trades.len() + 1)).chain([0, trades.len()]).collect();
        cuts.sort_unstable();
        let mut paged = Digest::new();
        for pair in cuts.windows(2) {
            paged.update(&trades.slice(pair[0]..pair[1]));
        }
        prop_assert_eq!(paged.finish(), digest(&trades));
    }

    #[test]
    fn digest_sees_every_column(trades in trades(20), at in any::<Index>(), column in 0..9) {
        let mut other = trades.clone();
        let i = at.index(trades.len());
        match column {
            0 => other.ts[i] ^= 1,
            1 => other.seq[i] ^= 1,
            2 => other.sub[i] ^= 1,
            3 => other.price[i] ^= 1,
            4 => other.size[i] ^= 1,
            5 => other.flags[i] ^= 1,
            6 => other.cond[i] ^= 1,
            7 => other.ts_recv[i] ^= 1,
            _ => other.trade_id[i] ^= 1,
        }
        prop_assert_ne!(digest(&other), digest(&trades));
    }

    #[test]
    fn merging_twice_is_merging_once(a in trades(40), b in trades(40)) {
        let (mut once, mut twice) = (Trades::new(), Trades::new());
        let first = merge(&a, &b, &mut once);
        prop_assert_eq!(first.added + first.known + first.conflicts.len(), b.len());
        prop_assert!(once.is_strictly_sorted());
        let again = merge(&once, &b, &mut twice);
        let known = b.len() - first.conflicts.len();
        prop_assert_eq!(&again, &Merge { added: 0, known, conflicts: first.conflicts, first_known: None });
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn a_float_of_nine_decimals_comes_back(raw in -8_388_608_000_000_000i64..8_388_608_000_000_000) {
        // Below 2^23 neighbouring floats lie less than 1e-9 apart.
        prop_assert_eq!(money::from_f64("price", money::to_f64(raw)), Ok(raw));
    }

    #[test]
    fn a_float_is_read_as_its_shortest_decimal(
        x in -9e9f64..9e9, small in -4e6f64..4e6, tie in -4_000_000_000i64..4_000_000_000, scale in 0i32..18
    ) {
        let tie = (tie as f64 + 0.5) / 1e9;
        let many = [x, small, small * 1e-6, tie, tie * 1e3, (small * 10f64.powi(scale)).round() / 10f64.powi(scale)];
        let expected: Vec<i64> = many.iter().map(|x| rounded_text(*x)).collect();
        let mut column = Vec::new();
        prop_assert_eq!(money::prices_from_f64(&many, &mut column), Ok(()));
        prop_assert_eq!(&column, &expected);
        for (x, nanos) in many.into_iter().zip(expected) {
            prop_assert_eq!(money::from_f64("price", x), Ok(nanos), "{}", x);
        }
    }
}

/// The nine decimals of a float's shortest text, rounded half away from zero digit by digit.
fn rounded_text(x: f64) -> i64 {
    let shortest = format!("{}", x.abs());
    let (whole, part) = shortest.split_once('.').unwrap_or((&shortest, ""));
    let digits = format!("{part:0<10}");
    let nanos = format!("{whole}{}", &digits[..9]).parse::<i64>().expect("digits");
    let nanos = nanos + i64::from(digits.as_bytes()[9] >= b'5');
    if x < 0.0 { -nanos } else { nanos }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_decode_or_error(bytes in vec(any::<u8>(), 0..400), version in 0u8..3, kind in 0u8..4, real in any::<bool>()) {
        let mut bytes = bytes;
        if real && bytes.len() > 8 {
            bytes[..4].copy_from_slice(b"BELL");
            (bytes[4], bytes[5]) = (version, kind);
            (bytes[6], bytes[7]) = if kind == 1 { (9, 4) } else { (12, 12) };
        }
        read_all_ways(&bytes);
        read_all_ways(&with_right_checksums(bytes));
    }

    #[test]
    fn a_damaged_block_decodes_or_errors(trades in trades(60), list in vec(damage(), 1..4)) {
        let block = encode(&trades, 0..trades.len()).expect("sorted trades");
        let bad = damaged(block.clone(), &list);
        read_all_ways(&bad);
        if bad != block {
            // With 64 bits of checksum over everything, damage is always seen.
            prop_assert!(check_block(&bad, &mut Trades::new()).is_err());
        }
        read_all_ways(&with_right_checksums(bad));
    }

    #[test]
    fn damaged_minute_bars_decode_or_error(minutes in minutes(), list in vec(damage(), 1..4)) {
        let block = encode_minutes(&minutes).expect("sorted minutes");
        let bad = damaged(block.clone(), &list);
        read_all_ways(&bad);
        if bad != block && !bad.is_empty() {
            prop_assert!(decode_minutes(&bad, &mut Vec::new()).is_err());
        }
        read_all_ways(&with_right_checksums(bad));
    }

    #[test]
    fn a_damaged_payload_unpacks_or_errors(
        parts in vec(vec(any::<u8>(), 0..20), 0..4), list in vec(damage(), 0..3)
    ) {
        let payload = pack_payload(&parts);
        let ranges = unpack_payload(&payload).expect("what was packed");
        prop_assert!(ranges.iter().map(|range| &payload[range.clone()]).eq(parts.iter().map(Vec::as_slice)));
        let bad = damaged(payload, &list);
        if let Ok(ranges) = unpack_payload(&bad) {
            prop_assert!(ranges.iter().all(|range| bad.get(range.clone()).is_some()));
        }
    }
}

/// Deterministic trades that use every column and encoding.
fn specimen(n: i64) -> Trades {
    (0..n)
        .map(|i| Trade {
            ts: 1_700_000_000_000_000_000 + i / 3 * 1_000_000,
            seq: 1000 + i,
            sub: (i % 2) as i32,
            price: (20_000 + i * i % 37) * 250_000_000,
            size: (1 + i % 7) * money::ONE,
            flags: if i % 50 == 7 { market::flags::NO_LAST } else { 0 },
            cond: (i % 5) as u32,
            ts_recv: 1_700_000_000_000_000_000 + i / 3 * 1_000_000 + 12_345 + i % 11,
            trade_id: 1000 + i,
        })
        .collect()
}

#[test]
fn many_pages_and_parts_round_trip() {
    let trades = specimen(150_000);
    let payload = encode_session(&trades).expect("sorted trades");
    let mut again = Trades::new();
    let parts = unpack_payload(&payload).expect("a payload");
    assert_eq!(parts.len(), 3);
    for part in parts {
        let header = check_block(&payload[part], &mut again).expect("a block");
        assert!(header.pages.len() <= 4);
    }
    assert_eq!(again, trades);
}

#[test]
fn pages_are_found_by_time() {
    let trades = specimen(40_000);
    let block = encode(&trades, 0..trades.len()).expect("sorted trades");
    let header = Header::parse(&block).expect("a header");
    assert_eq!(header.pages.len(), 3);
    assert_eq!(header.pages_between(i64::MIN, i64::MAX), 0..3);
    assert_eq!(header.pages_between(trades.ts[PAGE + 5], trades.ts[PAGE + 9]), 1..2);
    assert!(header.pages_between(i64::MIN, trades.ts[0]).is_empty());
    assert!(header.pages_between(trades.ts[39_999] + 1, i64::MAX).is_empty());
    // A slice of the block holds what one page needs.
    let span = header.core_span(1..2);
    let mut sparse = vec![0; header.core_end];
    sparse[span.clone()].copy_from_slice(&block[span]);
    let mut core = Core::new();
    assert_eq!(decode_core(&sparse, &header, 1, &mut core), Ok(PAGE));
    assert_eq!(core.ts[..], trades.ts[PAGE..2 * PAGE]);
    assert!(decode_core(&sparse, &header, 0, &mut core).is_err());
}

#[test]
fn what_is_no_session_is_not_encoded() {
    let one = Trade { size: 1, ..Trade::default() };
    let twice: Trades = [one, one].into_iter().collect();
    let negative: Trades = [Trade { size: -1, ..one }].into_iter().collect();
    let backwards: Trades = [Trade { ts: 1, ..one }, one].into_iter().collect();
    for (trades, range) in [(&twice, 0..2), (&negative, 0..1), (&backwards, 0..2), (&twice, 0..0), (&twice, 1..3)] {
        assert!(encode(trades, range).is_err());
    }
}

/// A file of each released version of the format, written once and read for ever. `BLESS=1` writes a missing one.
#[test]
fn blocks_of_version_1_stay_readable() {
    let trades = specimen(500);
    let minutes: Vec<MinuteBar> = (0..40)
        .map(|i| {
            let bar = Bar {
                open: 100 * money::ONE,
                high: (101 + i) * money::ONE,
                low: 99 * money::ONE,
                close: 100 * money::ONE + i * 10_000_000,
                volume: i128::from(i) * 1_000_000_000,
                notional: i128::from(i) * 100_000_000_000_000_000_000,
                trades: i + 1,
                priced: i + i % 2,
                weak_close: i % 3 == 1,
            };
            let bar = if bar.priced == 0 { Bar { open: 0, close: 0, ..bar } } else { bar };
            MinuteBar {
                minute: 28_333_333 * MINUTE + i * MINUTE,
                class: if i == 39 { Class::Close } else { Class::Continuous },
                bar,
            }
        })
        .collect();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let file = |name: &str, bytes: &dyn Fn() -> Vec<u8>| {
        let path = dir.join(name);
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            std::fs::write(&path, bytes()).expect("written");
        }
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let block = file("trades_v1.block", &|| encode(&trades, 0..trades.len()).expect("sorted trades"));
    assert_eq!(decoded(&block), trades);
    let block = file("minutes_v1.block", &|| encode_minutes(&minutes).expect("sorted minutes"));
    let mut again = Vec::new();
    decode_minutes(&block, &mut again).expect("a block of minute bars");
    assert_eq!(again, minutes);
    let state = file("bar_v1.state", &|| {
        let mut bar = market::BarBuilder::new();
        bar.push_f64(Some(100.25), Some(3.0), 10, 1).expect("a trade");
        bar.push_f64(Some(-1.5), Some(2.0), 20, 2).expect("a trade");
        bar.encode().to_vec()
    });
    let bar = market::BarBuilder::decode(&state).expect("a state").finish().expect("a bar").bar;
    assert_eq!((bar.open, bar.close, bar.volume), (100_250_000_000, -1_500_000_000, 5_000_000_000));
    // The digest is kept with sessions, so it must not change either.
    assert_eq!(digest(&trades), DIGEST_V1);
}

const DIGEST_V1: u64 = 5_789_700_902_062_449_622;
