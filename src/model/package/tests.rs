use super::*;

/// What the compiler writes for `forward(ids, weights)`, as far as it is read: rows and lengths are open, and those of the
/// second input are the first one's. `rows` is the check of the first input's rows.
fn source(rows: &str) -> String {
    let check = |index: usize, name: &str, dtype: &str, lines: &str| {
        format!(
            "AOTI_NOINLINE static void check_input_{index}(\n    AtenTensorHandle* input_handles\n) {{\n    \
             ConstantHandle {name} = ConstantHandle(input_handles[{index}]);\n    \
             int32_t {name}_expected_dtype = aoti_torch_dtype_{dtype}();\n    \
             if ({name}_expected_dtype != {name}_dtype) {{\n    }}\n{lines}    \
             if (1 != {name}_stride[2]) {{\n    }}\n}}\n"
        )
    };
    let row =
        |name: &str| format!("    if (64 != {name}_size[2]) {{\n    }}\n    if (64 != {name}_stride[1]) {{\n    }}\n");
    let first = check(0, "a", "int64", &(rows.to_owned() + &row("a")));
    let second = check(1, "b", "float32", &row("b"));
    let specification = r#"
        in_spec_ = R"([1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": "builtins.tuple", "context": "null", "children_spec": [{"type": null, "context": null, "children_spec": []}]}, {"type": "builtins.dict", "context": "[\"weights\"]", "children_spec": [{"type": null, "context": null, "children_spec": []}]}]}])";
        out_spec_ = R"([1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": null, "context": null, "children_spec": []},)"
R"( {"type": "builtins.dict", "context": "[\"sum\"]", "children_spec": [{"type": null, "context": null, "children_spec": []}]}]}])";"#;
    format!("{specification}{first}{second}    int64_t s1 = a_size[0];\n    int64_t s2 = a_size[1];\n")
}

fn package(rows: &str) -> Package {
    Package::read(Some(&source(rows)), None)
}

const OPEN: &str = "    if (a_size[0] < 2) {\n    }\n    if (a_size[0] > 16) {\n    }\n";

fn batch(first: [usize; 3], second: [usize; 3]) -> [Layout; 2] {
    let layout = |dtype, shape: [usize; 3]| Layout::new(dtype, shape.to_vec()).unwrap();
    [layout(DType::Int64, first), layout(DType::Fp32, second)]
}

#[test]
fn the_code_shows_what_it_takes_and_what_its_outputs_are_called() {
    let package = package(OPEN);
    let ports = package.ports().unwrap();
    assert_eq!(ports[0].shape_text(), "[-1, -1, 64]");
    let named: Vec<_> = ports.iter().map(|port| (port.name.as_str(), port.dtype)).collect();
    assert_eq!(named, [("input_0", Some(DType::Int64)), ("weights", Some(DType::Fp32))]);
    assert_eq!((package.output_names.join(" "), package.most_rows()), ("output_0 sum".to_owned(), Some(16)));
}

#[test]
fn a_batch_that_the_code_was_not_compiled_for_never_reaches_it() {
    let package = package(OPEN);
    assert_eq!(package.admit(&batch([1, 3, 64], [1, 3, 64])), Ok(()));
    for (first, second, says) in [
        ([1, 3, 63], [1, 3, 64], "input 0 is INT64[1, 3, 63]"),
        ([17, 3, 64], [17, 3, 64], "input 0 is INT64[17, 3, 64]"),
        // The code reads the second input by the lengths of the first.
        ([2, 3, 64], [2, 2, 64], "input 1 has the length 2 in dimension 1, expected that of another input, [3]"),
        ([2, 3, 64], [3, 3, 64], "input 1 has the length 3 in dimension 0, expected that of another input, [2]"),
    ] {
        let error = package.admit(&batch(first, second)).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert!(package.admit(&batch([1, 3, 64], [1, 3, 64])[..1]).unwrap_err().contains("1 inputs, expected 2"));
}

#[test]
fn rows_that_are_fixed_or_many_are_refused() {
    let error = package("    if (2 != a_size[0]) {\n    }\n").ports().unwrap_err();
    assert_eq!(error, "it was compiled for batches of exactly 2 rows");
    let error = package("    if (a_size[0] < 16) {\n    }\n").ports().unwrap_err();
    assert_eq!(error, "it was compiled for batches of at least 16 rows");
}

#[test]
fn memory_with_gaps_is_refused() {
    let source = source(OPEN).replace("if (64 != b_stride[1])", "if (128 != b_stride[1])");
    let error = Package::read(Some(&source), None).ports().unwrap_err();
    assert_eq!(error, "its input weights was compiled for memory that is not row-major");
}

#[test]
fn a_description_must_be_as_it_was_compiled() {
    let package = package(OPEN);
    let described = |inputs: &[&str]| {
        let ports = inputs.iter().map(|input| crate::model::spec::parse_input(input).unwrap());
        package.differs(&ports.collect::<Vec<_>>())
    };
    assert_eq!(
        described(&["x:INT64[-1,-1,64]", "y:FP32[-1,8,64]"]),
        Ok(()),
        "names are free, and lengths may be narrower"
    );
    for (inputs, says) in [
        (&["x:INT64[-1,-1,64]"][..], "it takes 2 inputs, and 1 are described"),
        (
            &["x:INT32[-1,-1,64]", "y:FP32[-1,-1,64]"],
            "its input x is INT64[-1, -1, 64], and is described as INT32[-1, -1, 64]",
        ),
        (&["x:INT64[-1,-1,-1]", "y:FP32[-1,-1,64]"], "is described as INT64[-1, -1, -1]"),
        (&["x:INT64[-1,64]", "y:FP32[-1,-1,64]"], "is described as INT64[-1, 64]"),
    ] {
        let error = described(inputs).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn code_that_nobody_can_read_shows_nothing() {
    let package = Package::read(Some("int main() {}"), Some("no JSON"));
    assert_eq!(package, Package::default());
    assert_eq!((package.ports(), package.admit(&[]), package.differs(&[])), (Ok(Vec::new()), Ok(()), Ok(())));
}

#[test]
fn a_machine_that_it_was_not_compiled_for_is_named() {
    let of = |device: &str, isa: &str| {
        let text = format!(r#"{{"AOTI_DEVICE_KEY":"{device}","AOTI_MACHINE":"x86_64","AOTI_CPU_ISA":"{isa}"}}"#);
        Package::read(None, Some(&text))
    };
    let flags: HashSet<String> = ["avx2", "fma", "avx512f"].map(str::to_owned).into();
    let said = |package: Package, device, arch| package.misplaced_on(device, arch, &flags).map(|(what, _)| what);
    assert_eq!(said(of("cpu", "AVX2"), Device::Cpu, "x86_64"), None);
    assert_eq!(said(of("cpu", "INVALID_VEC_ISA"), Device::Cpu, "x86_64"), None);
    assert_eq!(said(Package::default(), Device::Cpu, "x86_64"), None);
    assert_eq!(
        said(of("cpu", "AVX512 AMX_TILE"), Device::Cpu, "x86_64").unwrap(),
        "it was compiled for a processor that has avx512dq, avx512vl, avx512bw, amx_tile, and this one has not"
    );
    let said_of_arm = said(of("cpu", "AVX2"), Device::Cpu, "aarch64").unwrap();
    assert_eq!(said_of_arm, "it was compiled for x86_64 processors, and this is aarch64");
    assert_eq!(
        said(of("cuda", "AVX2"), Device::Cpu, "x86_64").unwrap(),
        "it was compiled for cuda, and is to compute on cpu"
    );
    assert!(said(of("cpu", "AVX2"), Device::Cuda(1), "x86_64").unwrap().contains("to compute on cuda:1"));
}
