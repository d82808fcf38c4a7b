//! The rules for YAML in this project.

use crate::manifest::{all_rendered, files, list, parse, read, rendered, text, walk};

#[test]
fn no_patch_is_targeted_and_nothing_old_is_used() {
    for path in files("k8s", "/kustomization.yaml") {
        let kustomization = &parse(&read(&path))[0];
        assert!(kustomization.get("bases").is_none() && kustomization.get("commonLabels").is_none(), "{path}");
        let mut patches = list(&kustomization["patches"]).iter();
        assert!(patches.all(|patch| patch.get("target").is_none()), "{path}: a target with a typo passes in silence");
    }
}

#[test]
fn every_image_has_a_version() {
    for file in all_rendered() {
        let images = file.objects.iter().flat_map(walk).filter_map(|map| map.get("image")).map(text);
        for image in images {
            let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map(|(_, tag)| tag);
            let numbered = tag.is_some_and(|tag| tag.starts_with(|c: char| c.is_ascii_digit()));
            assert!(numbered, "{}: {image}", file.name);
        }
    }
}

#[test]
fn the_base_leaves_to_its_variants_what_they_decide() {
    let base = rendered("base");
    let deployment = base.get("Deployment/ml-model");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    for field in ["replicas", "strategy"] {
        assert!(deployment["spec"].get(field).is_none(), "{field}");
    }
    for field in ["resources", "startupProbe", "livenessProbe", "readinessProbe"] {
        assert!(container.get(field).is_none(), "{field}");
    }
}

#[test]
fn a_fixed_number_of_replicas_and_an_autoscaler_never_meet() {
    for file in all_rendered() {
        for scaler in file.of_kind("HorizontalPodAutoscaler") {
            let target = &scaler["spec"]["scaleTargetRef"];
            let target = file.get(&format!("{}/{}", text(&target["kind"]), text(&target["name"])));
            assert!(target["spec"].get("replicas").is_none(), "{}: each apply sets them back", file.name);
        }
    }
}

#[test]
fn a_namespace_comes_before_what_lies_in_it() {
    for file in all_rendered() {
        let place = file.objects.iter().position(|object| object["kind"] == "Namespace");
        assert!(place.is_none_or(|place| place == 0), "{}: an apply goes from top to bottom", file.name);
    }
}
