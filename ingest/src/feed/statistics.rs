//! What a Databento file says beside trades: statistics records, in the layouts of version 1 (64 bytes) and of versions 2 and
//! 3 (80 bytes).
//!
//! What `market.session_stats` keeps is read, and everything else that venues publish (bids, indications, volatilities) left
//! alone. A settlement's flags are CME's `SettlPriceType`: bit 0 final, bit 1 actual, bit 3 of the running session.

use market::TradeDate;
use market::money::ONE;
use market::stat::StatKind;
use market::time::DAY;

const UNDEF_TIME: u64 = u64::MAX;
const UNDEF_PRICE: i64 = i64::MAX;

/// A published value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// What it is.
    pub kind: StatKind,
    /// In 1e-9.
    pub value: i64,
    /// When the venue published it.
    pub ts: i64,
    /// When it was received, where known.
    pub received: Option<i64>,
    /// The trade date it is of; where the venue does not say, the one of its publication.
    pub of: Option<TradeDate>,
    /// What the venue says about it.
    pub status: Option<&'static str>,
}

/// Reads a record of type statistics.
///
/// # Errors
/// A length that no version has, a value or a time that is not there.
pub fn statistic(record: &[u8]) -> Result<Option<Published>, String> {
    let wide = match record.len() {
        64 => false,
        80 => true,
        length => return Err(format!("statistics record has {length} bytes, neither version 1's nor 3's")),
    };
    let bytes = |at: usize, n: usize| {
        let mut value = [0u8; 8];
        value[..n].copy_from_slice(&record[at..at + n]);
        u64::from_le_bytes(value)
    };
    let (quantity, rest) = match wide {
        false => (i64::from(bytes(40, 4) as u32 as i32), 52),
        true => (bytes(40, 8) as i64, 56),
    };
    let undefined_quantity = if wide { i64::MAX } else { i64::from(i32::MAX) };
    let (event, received, reference, price) = (bytes(8, 8), bytes(16, 8), bytes(24, 8), bytes(32, 8) as i64);
    let (stat_type, action, flags) = (bytes(rest, 2), record[rest + 4], record[rest + 5]);
    let final_price = flags & 1 != 0;
    let (kind, is_price) = match stat_type {
        1 => (StatKind::OfficialOpen, true),
        3 if final_price => (StatKind::Settlement, true),
        3 => (StatKind::PreliminarySettlement, true),
        6 => (StatKind::ClearedVolume, false),
        9 => (StatKind::OpenInterest, false),
        11 => (StatKind::OfficialClose, true),
        17 => (StatKind::LimitUp, true),
        18 => (StatKind::LimitDown, true),
        19 => (StatKind::BlockVolume, false),
        _ => return Ok(None),
    };
    const DELETED: u8 = 2;
    if action == DELETED {
        return Ok(None);
    }
    let value = match is_price {
        true => Some(price).filter(|price| *price != UNDEF_PRICE),
        false => Some(quantity).filter(|quantity| *quantity != undefined_quantity).and_then(|q| q.checked_mul(ONE)),
    };
    let value = value.ok_or("the value of the statistic is undefined")?;
    if event == UNDEF_TIME {
        return Err("ts_event is undefined".into());
    }
    let ts = i64::try_from(event).map_err(|_| format!("ts_event {event} is out of range"))?;
    let status = (stat_type == 3).then_some(match flags & 0b1010 {
        0b0010 => "actual",
        0b0000 => "theoretical",
        0b1010 => "actual, intraday",
        _ => "theoretical, intraday",
    });
    let day = |reference: u64| i64::try_from(reference).ok().map(|ts| TradeDate(ts.div_euclid(DAY) as i32));
    let of = if reference == UNDEF_TIME { None } else { day(reference) };
    let received = if received == UNDEF_TIME { None } else { i64::try_from(received).ok() };
    Ok(Some(Published { kind, value, ts, received, of, status }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the published layout has it, here written once more from the crate that reads Databento's files.
    fn encoded(wide: bool, stat_type: u16, price: i64, quantity: i64, flags: u8, action: u8) -> Vec<u8> {
        let mut record = vec![0u8; 16];
        record[0] = if wide { 20 } else { 16 };
        record[1] = 0x18;
        record[8..16].copy_from_slice(&1_700_519_938_386_227_977u64.to_le_bytes());
        record.extend(1_700_519_938_386_517_391u64.to_le_bytes());
        record.extend(1_700_438_400_000_000_000u64.to_le_bytes());
        record.extend(price.to_le_bytes());
        if wide {
            record.extend(quantity.to_le_bytes());
        } else {
            record.extend((quantity as i32).to_le_bytes());
        }
        record.extend(3054u32.to_le_bytes());
        record.extend(0i32.to_le_bytes());
        record.extend(stat_type.to_le_bytes());
        record.extend(0u16.to_le_bytes());
        record.extend([action, flags]);
        record.resize(if wide { 80 } else { 64 }, 0);
        record
    }

    #[test]
    fn both_layouts_read_alike_and_only_what_is_kept_is_read() {
        for wide in [false, true] {
            let none = if wide { i64::MAX } else { i64::from(i32::MAX) };
            let read =
                |stat_type, price, quantity, flags| statistic(&encoded(wide, stat_type, price, quantity, flags, 1));
            let settlement = read(3, 4_753_750_000_000, none, 3).expect("whole").expect("kept");
            assert_eq!((settlement.kind, settlement.value), (StatKind::Settlement, 4_753_750_000_000));
            assert_eq!(settlement.of.map(|day| day.to_string()).as_deref(), Some("2023-11-20"));
            assert_eq!((settlement.status, settlement.received), (Some("actual"), Some(1_700_519_938_386_517_391)));
            let preliminary = read(3, 1, none, 2).expect("whole").expect("kept");
            assert_eq!((preliminary.kind, preliminary.status), (StatKind::PreliminarySettlement, Some("actual")));
            let interest = read(9, UNDEF_PRICE, 1768, 128).expect("whole").expect("kept");
            assert_eq!((interest.kind, interest.value, interest.status), (StatKind::OpenInterest, 1768 * ONE, None));
            // The highest bid is no statistic of ours; a deleted one says nothing; a settlement without a price is refused.
            assert_eq!(read(8, 1, none, 255), Ok(None));
            assert_eq!(statistic(&encoded(wide, 3, 1, none, 3, 2)), Ok(None));
            assert!(read(3, UNDEF_PRICE, none, 3).is_err());
            assert!(read(9, 1, none, 0).is_err());
        }
        assert!(statistic(&[0; 72]).is_err());
    }
}
