//! `kubectl torchpod lint`, by its rules' own examples, the tutorial's manifests, broken ones and many.

mod example;
