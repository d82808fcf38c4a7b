//! What this processor can do, by the names of Linux on x86-64.

use std::collections::HashSet;

use crate::tensor::DType;

/// Empty where Linux does not tell.
pub(super) fn flags() -> HashSet<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags")?.trim_start().strip_prefix(':'));
    flags.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// What `isa`, the compiler's name of instruction sets, takes and `flags` lack.
pub(super) fn missing(isa: &str, flags: &HashSet<String>) -> Vec<String> {
    let needed = isa.split_whitespace().flat_map(|name| match name {
        "AVX512" => ["avx512f", "avx512dq", "avx512vl", "avx512bw"].map(str::to_owned).to_vec(),
        "AVX2" => ["avx2", "fma"].map(str::to_owned).to_vec(),
        "INVALID_VEC_ISA" => Vec::new(),
        other => vec![other.to_lowercase()],
    });
    needed.filter(|name| !flags.contains(name)).collect()
}

/// Why computing in this type is slower here than in FP32; `None` where it need not be.
pub(super) fn is_slow_in(dtype: DType, flags: &HashSet<String>) -> Option<String> {
    let any = match dtype {
        DType::Bf16 => ["avx512_bf16", "amx_bf16"],
        DType::Fp16 => ["avx512_fp16", "amx_fp16"],
        _ => return None,
    };
    let has = any.iter().any(|name| flags.contains(*name));
    (!has).then(|| format!("this processor has neither {} nor {}: each number is converted", any[0], any[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_without_instructions_of_its_own_is_slow() {
        let flags: HashSet<String> = ["avx2".to_owned(), "amx_bf16".to_owned()].into();
        assert_eq!(is_slow_in(DType::Bf16, &flags), None);
        assert_eq!(is_slow_in(DType::Fp32, &flags), None);
        let reason = is_slow_in(DType::Fp16, &flags).unwrap();
        assert_eq!(reason, "this processor has neither avx512_fp16 nor amx_fp16: each number is converted");
        assert!(!super::flags().is_empty(), "Linux tells what this processor can do");
    }
}
