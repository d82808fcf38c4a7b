//! Models as people really write them: each is served in its way, or refused with a sentence that helps.

use std::thread;

use serde_json::{Value, json};

use crate::client::{self, Answer, JSON, NPY, RAW};
use crate::digits::rows;
use crate::models::Repository;
use crate::support::{ANY_PORT, Server, Turn};

/// Serves the model `name` while `ask` asks.
fn serving(turn: &Turn, name: &str, flags: &[&str], ask: impl FnOnce(&Server<'_>)) {
    let repository = Repository::odd(&[name]);
    let folder = repository.folder(name);
    let mut arguments = vec![folder.to_str().unwrap()];
    arguments.extend(flags);
    ask(&turn.serve(&arguments));
}

fn predict(server: &Server<'_>, inputs: &Value) -> Answer {
    client::predict(server.address, JSON, json!({ "inputs": inputs }).to_string().as_bytes())
}

/// The outputs of a request that must succeed.
fn outputs(server: &Server<'_>, inputs: &Value) -> Value {
    let answer = predict(server, inputs);
    assert_eq!(answer.status, 200, "{inputs}: {}", answer.text());
    answer.json()["outputs"].clone()
}

#[test]
fn outputs_of_every_form_have_names() {
    let turn = Turn::shared();
    for (name, expected) in [
        ("row_sum", json!({"output_0": [[1.0, 2.0, 3.0]], "output_1": [6.0]})),
        ("list", json!({"output_0": [[1.0, 2.0, 3.0]], "output_1": [[2.0, 4.0, 6.0]]})),
        ("dict", json!({"twice": [[2.0, 4.0, 6.0]], "same": [[1.0, 2.0, 3.0]]})),
        (
            "nested",
            json!({"output_0": [[1.0, 2.0, 3.0]], "output_1_0": [[2.0, 4.0, 6.0]], "output_1_1": [[3.0, 6.0, 9.0]],
                "sum": [6.0]}),
        ),
        ("empty", json!({"output": [[]]})),
        ("forked", json!({"output": [[2.0, 4.0, 6.0]]})),
    ] {
        serving(&turn, name, &[], |server| assert_eq!(outputs(server, &json!([[1, 2, 3]])), expected, "{name}"));
    }
    serving(&turn, "wide", &[], |server| {
        let wide = outputs(server, &json!([[1, 2, 3], [0, 0, 1]]));
        let rows: Vec<&Vec<Value>> =
            wide["output"].as_array().unwrap().iter().map(|row| row.as_array().unwrap()).collect();
        assert_eq!((rows[0].len(), &rows[0][99_999], &rows[1][99_999]), (100_000, &json!(6.0), &json!(1.0)));
    });
}

#[test]
fn inputs_of_every_kind_are_taken() {
    let turn = Turn::shared();
    for (name, inputs, expected) in [
        ("two_inputs", json!({"b": [[1, 1, 1]], "a": [[1, 2, 3]]}), json!([[3.0, 5.0, 7.0]])),
        ("optional", json!([[1, 2, 3]]), json!([[2.0, 4.0, 6.0]])),
        ("embedding", json!([[3, 0]]), json!([[[6.0, 7.0], [0.0, 1.0]]])),
        ("mask", json!({"x": [[1, 2, 3]], "mask": [[true, false, false]]}), json!([5.0])),
        ("image", json!([[[0, 255, 0], [0, 255, 0]], [[0, 255, 0], [0, 255, 51]]]), json!([[0.0, 1.0, 0.05]])),
        ("scalars", json!(3), json!([6.0])),
        ("scalars", json!([3, 1.5]), json!([6.0, 3.0])),
        ("half", json!([[1, 3, 5]]), json!([[0.5, 1.5, 2.5]])),
        ("brain", json!([[1, 3, 5]]), json!([[0.5, 1.5, 2.5]])),
        ("buffers", json!([[3, 4, 5]]), json!([[1.0, 1.0, 1.0]])),
    ] {
        serving(&turn, name, &[], |server| assert_eq!(outputs(server, &inputs)["output"], expected, "{name}"));
    }
}

/// Serves the model `name` with a line more in its model.toml.
fn serving_with(turn: &Turn, name: &str, line: &str, ask: impl FnOnce(&Server<'_>)) {
    let repository = Repository::odd(&[name]);
    let toml = repository.folder(name).join("model.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, format!("{line}\n{text}")).unwrap();
    ask(&turn.serve(&[repository.path()]));
}

#[test]
fn a_model_computes_in_the_precision_that_its_model_toml_wants_and_nobody_else_is_told() {
    let turn = Turn::shared();
    let inputs = json!({"x": [[257, 2049, 1]], "n": [2049]});
    for (precision, x, product) in [
        ("fp32", [257.0, 2049.0], 257.257),
        // 1.001 is 1 with eight bits of a mantissa.
        ("bf16", [256.0, 2048.0], 256.0),
        ("fp16", [257.0, 2048.0], 257.25),
    ] {
        serving_with(&turn, "precise", &format!("precision = \"{precision}\""), |server| {
            let got = outputs(server, &inputs);
            let one = got["output_0"][0][0].as_f64().unwrap();
            assert!((one - product).abs() < 0.05, "{precision}: {got}");
            assert_eq!(got["output_1_0"], json!([[x[0], x[1], 1.0]]), "{precision}");
            assert_eq!(got["output_1_1"], json!([2050]), "whole numbers are left alone");
            assert!(got["sum"][0].is_f64(), "{got}");
        });
    }
}

#[test]
fn channels_come_last_where_the_model_toml_wants_it() {
    let turn = Turn::shared();
    let image = json!([[[[1, 2], [3, 4]], [[0, 0], [0, 1]]]]);
    for (format, stride) in [("contiguous", 4.0), ("channels_last", 1.0)] {
        serving_with(&turn, "strides", &format!("memory_format = \"{format}\""), |server| {
            assert_eq!(outputs(server, &image)["output"], json!([120.0 + stride]), "{format}");
        });
    }
}

#[test]
fn every_type_comes_back_as_it_went() {
    let turn = Turn::shared();
    serving(&turn, "same", &[], |server| {
        for (descr, data, expected) in [
            ("|b1", vec![1, 0], json!([true, false])),
            ("|u1", vec![255, 1], json!([255, 1])),
            ("<u2", 65_535_u32.to_le_bytes().to_vec(), json!([65_535, 0])),
            ("<u4", [u32::MAX.to_le_bytes(), 7_u32.to_le_bytes()].concat(), json!([u32::MAX, 7])),
            ("<u8", [u64::MAX.to_le_bytes(), 7_u64.to_le_bytes()].concat(), json!([u64::MAX, 7])),
            ("|i1", vec![0x80, 1], json!([-128, 1])),
            ("<i2", vec![0, 0x80, 1, 0], json!([i16::MIN, 1])),
            ("<i4", [i32::MIN.to_le_bytes(), 7_i32.to_le_bytes()].concat(), json!([i32::MIN, 7])),
            ("<i8", [i64::MIN.to_le_bytes(), 7_i64.to_le_bytes()].concat(), json!([i64::MIN, 7])),
            ("<f2", vec![0, 0x3c, 0, 0xc0], json!([1.0, -2.0])),
            ("<f4", [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat(), json!([1.5, -2.0])),
            ("<f8", [0.1_f64.to_le_bytes(), (-2.0_f64).to_le_bytes()].concat(), json!([0.1, -2.0])),
        ] {
            let answer = client::predict(server.address, NPY, &client::npy(descr, "(2,)", &data));
            assert_eq!(answer.json()["outputs"]["output"], expected, "{descr}: {}", answer.text());
        }
    });
}

/// Waits for the log to say why requests do not share batches.
fn wait_for_reason(server: &Server<'_>, part: &str) {
    server.log.wait_for(part, |line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("batching is off") && line["reason"].as_str().unwrap_or_default().contains(part)
    });
}

/// How many batches the model `name` has computed.
fn batches(server: &Server<'_>, name: &str) -> usize {
    client::count(server.address, &format!("torchpod_batch_rows_count{{model=\"{name}\",version=\"1\"}}"))
}

#[test]
fn rows_that_depend_on_others_are_computed_alone_and_whole() {
    let turn = Turn::shared();
    // The sum over all rows decides, and comes out wrong where a request is split at 32 rows, or shares its batch.
    serving(&turn, "control_flow", &["--chaos", "batch-delay=100ms"], |server| {
        wait_for_reason(server, "output output of a row changes when another row shares its batch: element 0 is");
        let mut rows = vec![[-1.0; 3]; 39];
        rows.push([100.0; 3]);
        let doubled = outputs(server, &json!(rows));
        assert_eq!((&doubled["output"][0][0], &doubled["output"][39][0]), (&json!(-2.0), &json!(200.0)));

        let before = batches(server, "control_flow");
        thread::scope(|scope| {
            for caller in 0..6_i32 {
                scope.spawn(move || {
                    let (sent, expected) = if caller % 2 == 0 { (5.0, 10.0) } else { (-1.0, 1.0) };
                    assert_eq!(
                        outputs(server, &json!([[sent, sent, sent]]))["output"],
                        json!([[expected, expected, expected]])
                    );
                });
            }
        });
        let batches = batches(server, "control_flow") - before;
        assert_eq!(batches, 6, "six requests, none of which shares a batch");
    });
    serving(&turn, "softmax_of_batch", &[], |server| {
        wait_for_reason(server, "output output of a row changes");
        assert_eq!(
            outputs(server, &json!([[1, 2, 3], [1, 2, 3]]))["output"],
            json!([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
        );
    });
    serving(&turn, "mean", &[], |server| {
        wait_for_reason(server, "has shape [] for two rows: expected a first dimension of 2");
        assert_eq!(outputs(server, &json!([[1, 2, 3], [4, 5, 6]]))["output"], json!(3.5));
    });
}

#[test]
fn rows_that_are_independent_share_a_batch() {
    let turn = Turn::shared();
    serving(&turn, "buffers", &["--chaos", "batch-delay=300ms"], |server| {
        let before = batches(server, "buffers");
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| outputs(server, &json!([[3, 4, 5]])));
            }
        });
        let batches = batches(server, "buffers") - before;
        assert!(batches < 6, "six requests took {batches} batches");
    });
}

#[test]
fn what_a_model_keeps_of_its_inputs_stays_as_it_was() {
    let turn = Turn::shared();
    serving(&turn, "keeper", &[], |server| {
        let asked = [json!([[1, 2, 3]]), json!([[4, 5, 6], [7, 8, 9]]), json!([[1, 1, 1]]), json!([[2, 2, 2]])];
        let answers = asked.each_ref().map(|rows| outputs(server, rows)["output"].clone());
        for (answer, before) in answers[1..].iter().zip(&asked) {
            assert_eq!(rows(answer), rows(before));
        }
    });
}

#[test]
fn what_the_model_toml_declares_is_not_probed() {
    let turn = Turn::shared();
    let declared =
        |line: &Value| line["message"] == "not probed, as its model.toml wants it" && line["row_wise"] == false;
    serving(&turn, "declared", &[], |server| drop(server.log.wait_for("declared", declared)));
    // Its output has no batch dimension, and its golden rows are one request.
    serving(&turn, "mean_of_batch", &[], |server| {
        server.log.wait_for("declared", declared);
        assert_eq!(outputs(server, &json!([[1, 2, 3], [4, 5, 9]]))["mean"], json!(4.0));
    });
}

#[test]
fn a_model_that_draws_random_numbers_is_taken_at_its_word() {
    let turn = Turn::shared();
    serving(&turn, "random", &[], |server| {
        let line = server
            .log
            .wait_for("a warning", |line| line["message"].as_str().unwrap_or_default().contains("cannot be told"));
        assert!(line["reason"].as_str().unwrap().contains("differ between two runs over the same row"), "{line}");
        assert_eq!(line["level"], "WARN");
    });
}

#[test]
fn what_a_model_raises_is_told_in_its_own_words() {
    let turn = Turn::shared();
    for (name, inputs, said) in [
        ("raises", json!([[1, 2, 300]]), "the model raised: x is too large: expected at most 9"),
        ("embedding", json!([[1, 99]]), "the model raised: index out of range in self"),
    ] {
        serving(&turn, name, &[], |server| {
            let answer = predict(server, &inputs);
            assert_eq!(answer.status, 500, "{}", answer.text());
            assert_eq!(answer.json()["error"], json!({"code": "model_failed", "message": said}));
            let line = server.log.wait_for("batch failed", |line| line["message"] == "batch failed");
            assert!(line["error"].as_str().unwrap().contains("code/__torch__.py"), "the log has all of it: {line}");
            // It raised for these rows, and not for others.
            assert_eq!(predict(server, &json!([[1, 2, 3]])).status, 200);
        });
    }
}

#[test]
fn an_archive_may_describe_itself() {
    let turn = Turn::shared();
    serving(&turn, "described", &[], |server| {
        let answer = predict(server, &json!([[3, 1, 2]])).json();
        assert_eq!(
            (&answer["outputs"]["y"], &answer["predictions"][0]["label"]),
            (&json!([[6.0, 2.0, 4.0]]), &json!("one"))
        );
    });
}

#[test]
fn a_model_that_nothing_describes_takes_what_comes() {
    let turn = Turn::shared();
    serving(&turn, "plain", &[], |server| {
        let raw = client::predict(server.address, RAW, &[0; 12]);
        assert_eq!(
            (raw.status, raw.json()["error"]["hint"].as_str()),
            (400, Some("send JSON or .npy, which carry a shape"))
        );
        assert_eq!(outputs(server, &json!([[1, 2]])), json!({"output_0": [[2, 4]], "output_1": [3]}));
        server.log.wait_for("learned", |line| line["message"] == "rows are independent: requests share batches");
        assert_eq!(outputs(server, &json!([[1.5]])), json!({"output_0": [[3.0]], "output_1": [1.5]}));
        let answer = client::predict(
            server.address,
            NPY,
            &client::npy("<f8", "(2, 1)", &[1.0_f64, 2.0].map(f64::to_le_bytes).concat()),
        );
        assert_eq!(answer.json()["outputs"]["output_0"], json!([[2.0], [4.0]]));
        let scalar = predict(server, &json!({"x": 1})).json();
        assert_eq!(scalar["error"]["message"], "x: a single value, expected an array of rows");
    });
    serving(&turn, "plain", &["--input", "x:FP32[-1,2]"], |server| {
        let answer = client::predict(server.address, RAW, &[1.0_f32, 2.0].map(f32::to_le_bytes).concat());
        assert_eq!(answer.json()["outputs"]["output_1"], json!([3.0]));
    });
    serving(&turn, "plain_softmax", &[], |server| {
        assert_eq!(outputs(server, &json!([[1, 2], [1, 2]]))["output"], json!([[0.5, 0.5], [0.5, 0.5]]));
        wait_for_reason(server, "of a row changes when another row shares its batch");
    });
    serving(&turn, "plain_centred", &[], |server| {
        // Rows that are all alike, such as padding, do not make it a model whose rows are independent.
        assert_eq!(outputs(server, &json!([[0], [0]]))["output"], json!([[0.0], [0.0]]));
        wait_for_reason(server, "of a row changes when another row shares its batch");
    });
    serving(&turn, "plain_two", &[], |server| {
        assert_eq!(outputs(server, &json!({"a": [[1]], "b": [[3]]}))["output"], json!([[5]]));
        let wrong = predict(server, &json!({"a": [[1]]}));
        assert!(wrong.text().contains("\\\"b\\\" is missing, expected a, b"), "{}", wrong.text());
    });
    serving(&turn, "plain_embedding", &[], |server| {
        // A request that fails teaches nothing; the next one does.
        let error = predict(server, &json!([[99], [3]])).json()["error"].clone();
        assert_eq!(error["message"], "the model raised: index out of range in self");
        assert!(error["hint"].as_str().unwrap().contains("the first dimension was taken for 2 rows"), "{error}");
        assert_eq!(outputs(server, &json!([[3]]))["output"], json!([[[6.0, 7.0]]]));
        server.log.wait_for("learned", |line| line["message"] == "rows are independent: requests share batches");
    });
}

#[test]
fn what_cannot_be_served_is_refused_with_a_sentence_that_helps() {
    let turn = Turn::shared();
    let export = "hint: export the model with torch.jit.script or torch.jit.trace, then .save(…)";
    let compile = "hint: compile the model with models/export.py";
    let whole = "hint: expected a TorchScript archive, whole, as torch.jit.save writes it";
    for (name, says) in [
        ("foreign_operator", ["foreign_operator/1/model.pt: Unknown builtin op: torchvision::nms; hint:", whole]),
        (
            "text",
            [
                "returns a value of type str",
                "tensors, lists of texts, and tuples, lists and dicts of these can be served",
            ],
        ),
        ("texts_ragged", ["output output has rows of 1 and of 2 texts: expected as many in each", "hint: the weights"]),
        ("texts_golden", ["y: element 1 is \"DOG\", expected \"dog\"", "hint: the weights"]),
        ("texts_unbearable", ["failed in its warm-up: ", "no texts today"]),
        ("texts_as_numbers", ["x is described as FP32[-1, 3], but the model takes a list of texts", "[-1] or [-1, 1]"]),
        ("texts_as_lists", ["x is described as BYTES[-1, 2], but the model takes a list of texts", "[-1] or [-1, 1]"]),
        (
            "numbers_as_texts",
            ["x is described as BYTES[-1], but the model takes a tensor", "expected a type of numbers"],
        ),
        ("too_few_inputs", ["takes a, b, but the inputs that are described are a:", "the same ones, in their order"]),
        ("swapped_inputs", ["takes a, b, but the inputs that are described are b, a", "in their order"]),
        ("other_outputs", ["returns 1 outputs", "its model.toml names 2"]),
        ("misdescribed", ["y: element 2 is 6, expected 7", "hint: the weights and the golden file"]),
        ("state_dict", ["a checkpoint (a state_dict) that torch.save wrote: weights without code", export]),
        ("whole_module", ["a whole module (__main__.Net) that torch.save wrote", export]),
        ("legacy", ["a pickle, as old versions of torch.save write it", export]),
        ("exported", ["an exported program (.pt2), as torch.export writes it, that nobody has compiled", compile]),
        ("package_for_cuda", ["it was compiled for cuda, and is to compute on cpu", "--device"]),
        (
            "package_for_others",
            ["it was compiled for a processor that has ", "avx1024, and this one has not; hint: compile"],
        ),
        ("package_of_another", ["a package (.pt2) without machine code for a model called model", compile]),
        ("package_torn", ["hint: expected a package that libtorch 2.11 compiled, and a /tmp that", ".wrapper.so: "]),
        (
            "package_misdescribed",
            ["its input ids is INT64[-1, -1], and is described as INT32[-1, -1]", "compile it anew"],
        ),
        ("package_as_script", ["model.toml says format = \"torchscript\", and it is \"aoti\"", "or change the line"]),
        ("package_in_bf16", ["a package keeps what it was compiled with", "compile the model with it"]),
        ("package_silent", ["it does not show what its inputs are, and nothing describes them", "by --input"]),
        ("script_as_package", ["model.toml says format = \"aoti\", and it is \"torchscript\"", "or change the line"]),
        ("safetensors", ["a safetensors file: weights without code", export]),
        ("onnx", ["an ONNX model", export]),
        ("pointer", ["a Git LFS pointer", "git lfs pull"]),
        ("nothing", ["it is empty", whole]),
        ("truncated", ["truncated or damaged", whole]),
    ] {
        let repository = Repository::odd(&[name]);
        let output = turn.run(&["serve", repository.path(), "--listen", ANY_PORT]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let reason = stderr.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(3), "{name}: {stderr}");
        for part in says {
            assert!(reason.contains(part) && reason.contains(&format!("{name}@1")), "{name}: {part:?} in {reason:?}");
        }
    }
}
