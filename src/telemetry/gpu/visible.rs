//! Which GPUs a process can see, and in which order, as CUDA reads `CUDA_VISIBLE_DEVICES`. NVML does not read it.
//!
//! CUDA puts the fastest GPU first unless `CUDA_DEVICE_ORDER=PCI_BUS_ID`; where all are alike, as in a node of a cluster,
//! that is NVML's order, and PyTorch takes it for that, too.

/// The indexes in `uuids` of what CUDA calls 0, 1 and so on. An entry that means no GPU ends the list, as it does in CUDA;
/// slices of a GPU (`MIG-…`) are none.
pub(super) fn by_number(wanted: Option<&str>, uuids: &[String]) -> Vec<usize> {
    let Some(wanted) = wanted else { return (0..uuids.len()).collect() };
    let visible: Vec<usize> = wanted.split(',').map_while(|entry| meant(entry.trim(), uuids)).collect();
    // CUDA sees no GPU at all where one is named twice.
    let is_twice = visible.iter().enumerate().any(|(place, index)| visible[..place].contains(index));
    if is_twice { Vec::new() } else { visible }
}

/// By its number, or by as much of its UUID as tells it from the others.
fn meant(entry: &str, uuids: &[String]) -> Option<usize> {
    if !entry.starts_with("GPU-") {
        return entry.parse().ok().filter(|index| *index < uuids.len());
    }
    let mut alike = uuids.iter().enumerate().filter(|(_, uuid)| uuid.starts_with(entry)).map(|(index, _)| index);
    alike.next().filter(|_| alike.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_read_as_cuda_reads_it() {
        let uuids = ["GPU-aa11", "GPU-aa22", "GPU-bb33"].map(str::to_owned);
        for (wanted, expected) in [
            (None, &[0, 1, 2][..]),
            (Some(""), &[]),
            (Some("1"), &[1]),
            (Some("2, 0"), &[2, 0]),
            (Some("0,3,1"), &[0]),
            (Some("1,-1,2"), &[1]),
            (Some("0,0"), &[]),
            (Some("GPU-bb,GPU-aa1"), &[2, 0]),
            (Some("GPU-aa"), &[]),
            (Some("MIG-aa11"), &[]),
        ] {
            assert_eq!(by_number(wanted, &uuids), expected, "{wanted:?}");
        }
    }
}
