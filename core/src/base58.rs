//! 32 bytes as base58 and back. Every answer of a chain holds a handful of hashes, so that this works on five digits and
//! four bytes at a time instead of on one.

const DIGITS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// No digit.
const NONE: u8 = 0xff;
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut digit = 0;
    while digit < DIGITS.len() {
        values[DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};
/// Digits in a group: 58^5 is the highest power below 2^32.
const GROUP: usize = 5;
const GROUP_VALUE: u64 = 58u64.pow(GROUP as u32);
/// Groups that hold 32 bytes: 58^45 > 2^256.
const GROUPS: usize = 9;

/// What [`encode`] writes into.
pub(crate) const BUFFER: usize = GROUP * GROUPS;
/// The longest text of 32 bytes: 58^44 > 2^256 > 58^43.
const MAX_DIGITS: usize = 44;

/// The text of `bytes`, at the end of `out`.
pub(crate) fn encode<'a>(bytes: &[u8; 32], out: &'a mut [u8; BUFFER]) -> &'a str {
    // The lowest group first.
    let mut groups = [0u32; GROUPS];
    let mut used = 0;
    for word in bytes.chunks_exact(4) {
        let mut carry = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        for group in &mut groups[..used] {
            carry += u64::from(*group) << 32;
            *group = (carry % GROUP_VALUE) as u32;
            carry /= GROUP_VALUE;
        }
        while carry > 0 {
            groups[used] = (carry % GROUP_VALUE) as u32;
            used += 1;
            carry /= GROUP_VALUE;
        }
    }
    for (digits, group) in out.rchunks_exact_mut(GROUP).zip(groups) {
        let mut rest = group;
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(rest % 58) as usize];
            rest /= 58;
        }
    }
    // Each zero byte at the head is a zero digit of its own, whatever the number's length.
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let number = out.iter().take_while(|digit| **digit == DIGITS[0]).count();
    // All digits are ASCII.
    std::str::from_utf8(&out[number - zeros..]).unwrap_or_default()
}

/// The 32 bytes that `text` says; `None` when it says anything else.
pub(crate) fn decode(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() > MAX_DIGITS {
        return None;
    }
    // The lowest word first.
    let mut words = [0u32; 8];
    for digits in text.chunks(GROUP) {
        let (mut group, mut factor) = (0, 1);
        for digit in digits {
            let value = VALUES[usize::from(*digit)];
            if value == NONE {
                return None;
            }
            group = group * 58 + u64::from(value);
            factor *= 58;
        }
        let mut carry = group;
        for word in &mut words {
            carry += u64::from(*word) * factor;
            *word = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            return None;
        }
    }
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.rchunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    (text.iter().take_while(|digit| **digit == DIGITS[0]).count() == zeros).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_writes_and_reads_what_bs58_does(zeros in 0usize..=32, mut bytes: [u8; 32]) {
            bytes[..zeros].fill(0);
            let text = bs58::encode(bytes).into_string();
            let mut out = [0; BUFFER];
            prop_assert_eq!(encode(&bytes, &mut out), &text);
            prop_assert_eq!(decode(text.as_bytes()), Some(bytes));
        }

        #[test]
        fn it_refuses_what_bs58_does_not_read_as_32_bytes(text in "[1-9A-HJ-NP-Za-km-z]{40,45}|1{0,40}|.{0,60}|[z1]{43,44}") {
            let read: Option<[u8; 32]> = bs58::decode(&text).into_vec().ok().and_then(|bytes| bytes.try_into().ok());
            prop_assert_eq!(decode(text.as_bytes()), read);
        }
    }
}
