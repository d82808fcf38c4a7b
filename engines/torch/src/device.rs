//! Devices and what their errors mean. CUDA's part of libtorch is opened at run time, so that one build serves both.

use torchpod_abi::{Device, class};

use crate::module::{Said, open_library};

/// Opens `libtorch_cuda` and counts the devices; the error says why there are none.
///
/// Must run before any other libtorch call: libtorch looks its CUDA hooks up once.
pub(crate) fn open_cuda(library_dir: &str) -> Result<u32, String> {
    // The driver's library is small and absent on a CPU host; libtorch_cuda is neither.
    open_library("libcuda.so.1").map_err(|error| format!("no CUDA driver: {error}"))?;
    let path = match library_dir {
        "" => "libtorch_cuda.so".to_owned(),
        dir => format!("{dir}/lib/libtorch_cuda.so"),
    };
    open_library(&path).map_err(|error| format!("no CUDA libraries: {error}"))?;
    match u32::try_from(tch::Cuda::device_count()) {
        Ok(0) | Err(_) => Err("the CUDA driver reports no device".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// libtorch's device number: -1 is the CPU.
pub(crate) fn cuda_index(device: Device) -> i32 {
    if device.kind == Device::CUDA { i32::try_from(device.index).unwrap_or(i32::MAX) } else { -1 }
}

/// Sorts libtorch's errors by their text, the only thing that all of them have.
pub(crate) fn classify(said: &Said) -> u32 {
    const OUT_OF_MEMORY: [&str; 5] = [
        "CUDA out of memory",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_NOT_INITIALIZED",
        "can't allocate memory",
        "CUDNN_STATUS_ALLOC_FAILED",
    ];
    match said {
        Said::Cancelled => class::CANCELLED,
        Said::Unfit(_) => class::UNFIT,
        Said::Error(text) if OUT_OF_MEMORY.iter().any(|sign| text.contains(sign)) => class::OUT_OF_MEMORY,
        Said::Error(text) if text.contains("CUDA error:") => class::DEVICE_LOST,
        Said::Error(_) => class::OTHER,
    }
}
