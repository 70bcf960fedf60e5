//! Taking the mask off a payload (RFC 6455, 5.3).

/// Unmasks `data` in place; `phase` is how many bytes of the payload came before it. Returns the phase after it.
pub(super) fn unmask(data: &mut [u8], mask: [u8; 4], phase: usize) -> usize {
    let turned = [mask[phase % 4], mask[(phase + 1) % 4], mask[(phase + 2) % 4], mask[(phase + 3) % 4]];
    let wide =
        u64::from_ne_bytes([turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3]]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
    (phase + data.len()) % 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_unmask_to_what_the_whole_does(data: Vec<u8>, mask: [u8; 4], cut: prop::sample::Index) {
            let plain: Vec<u8> = data.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            let (mut whole, mut pieces) = (data.clone(), data.clone());
            unmask(&mut whole, mask, 0);
            prop_assert_eq!(&whole, &plain);
            let (first, second) = pieces.split_at_mut(cut.index(data.len() + 1));
            let phase = unmask(first, mask, 0);
            unmask(second, mask, phase);
            prop_assert_eq!(&pieces, &plain);
        }
    }
}
