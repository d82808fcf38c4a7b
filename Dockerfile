# The images. `make image` builds one with what is at hand; README.md's "Image" says what is in them.
#
#   cpu      serves models on a CPU (the default target)
#   cuda     the same, with what a GPU needs; the driver comes from the host, by NVIDIA's container toolkit
#   trainer  trains models/digits, in one process or in several
#
# Any Debian 12 will do as base: the engine needs glibc 2.36 and libstdc++ from GCC 12, and the trainer Python 3.11.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm

FROM ${BASE_IMAGE} AS libtorch
RUN apt-get update \
 && apt-get install -y --no-install-recommends binutils python3-pip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /fetch
COPY scripts/libtorch scripts/libtorch-cpu.txt scripts/
RUN touch scripts/libtorch-cuda.txt \
 && TORCHPOD_CACHE=/fetch/cache scripts/libtorch cpu \
 && cp -al "$(dirname "$(readlink -f .libtorch)")" /opt/libtorch
# The objects that the engine opens, found by `ldd`, in the folders where libtorch_cpu.so looks for them. Without symbols
# that only a debugger reads libtorch_cpu.so is 93 MB smaller; NVIDIA's two are left as they came. What names the packages
# and their versions stays beside them for scanners, and their licences for people.
RUN cd /opt/libtorch \
 && for file in torch/lib/libtorch_cpu.so torch/lib/libc10.so torch/lib/libgomp.so.1 \
                nvidia/cu13/lib/libcudart.so.13 nvidia/cu13/lib/libcupti.so.13; do \
      install -D -m 644 "$file" "/cpu/opt/libtorch/$file" || exit; \
    done \
 && strip --strip-unneeded /cpu/opt/libtorch/torch/lib/* \
 && for package in *.dist-info; do \
      find "$package" \( -iname '*license*' -o -name METADATA \) -type f \
           -exec install -D -m 644 -t "/cpu/opt/libtorch/$package" {} +; \
    done

# Everything that libtorch_cuda.so needs, but for what only Python and profilers open.
FROM libtorch AS libtorch-cuda
COPY scripts/libtorch-cuda.txt scripts/
RUN TORCHPOD_CACHE=/fetch/cache scripts/libtorch cuda \
 && cd "$(dirname "$(readlink -f .libtorch)")" \
 && find torch/lib nvidia -name '*.so*' ! -name 'libtorch_python*' ! -name 'libshm*' ! -name 'libcheckpoint*' \
         ! -name 'libnvperf*' ! -name 'libpcsamplingutil*' -printf '%p\n' \
  | while read -r file; do \
      [ -e "/cpu/opt/libtorch/$file" ] || install -D -m 644 "$file" "/cuda/opt/libtorch/$file" || exit; \
    done \
 && for package in nvidia_*.dist-info; do \
      find "$package" \( -iname '*license*' -o -name METADATA \) -type f \
           -exec install -D -m 644 -t "/cuda/opt/libtorch/$package" {} +; \
    done

FROM ${RUST_IMAGE} AS build
# Besides a compiler what scripts/dist needs: the LLVM that rustc has, and who sends requests.
RUN apt-get update \
 && llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/llvm-\1/p') \
 && apt-get install -y --no-install-recommends g++ curl nghttp2-client "$llvm" \
 && rm -rf /var/lib/apt/lists/*
# Where it is in the image, too: the engine remembers the folder that it was built against.
COPY --from=libtorch /opt/libtorch/torch/include /opt/libtorch/torch/include
COPY --from=libtorch /opt/libtorch/torch/lib /opt/libtorch/torch/lib
COPY --from=libtorch /opt/libtorch/nvidia/cu13/lib /opt/libtorch/nvidia/cu13/lib
ENV LIBTORCH=/opt/libtorch/torch
# Writes into what it builds which crates it was built from, where scanners of images look.
ARG AUDITABLE=0.7.7
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked --root /usr/local cargo-auditable@${AUDITABLE}
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY engines engines
COPY fuzz fuzz
COPY kubectl-torchpod kubectl-torchpod
COPY src src
# Cargo wants to see the root of every target that Cargo.toml names.
COPY benches/compare/main.rs benches/compare/
COPY benches/micro.rs benches/
COPY tests/it/main.rs tests/it/
COPY models/digits models/digits
COPY scripts/dist scripts/requests scripts/
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    built=$(CARGO="cargo auditable" scripts/dist --locked) \
 && install -D -m 755 -t /built/usr/local/bin "$built/torchpod" \
 && install -D -m 644 -t /built/usr/local/lib/torchpod "$built/libtorchpod_torch.so"
# Tables of lines for debuggers, nine tenths of both; a panic says its line without them.
RUN strip --strip-debug /built/usr/local/bin/* /built/usr/local/lib/torchpod/*

FROM ${BASE_IMAGE} AS server
# curl for exec probes and for looking around; certificates for https:// dependencies.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin torchpod
COPY LICENSE /usr/local/share/doc/torchpod/
COPY models/digits/1 /models/digits/1
COPY models/digits/golden.json models/digits/sample.json models/digits/labels.txt models/digits/model.toml /models/digits/
COPY --from=build /built/ /
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="torchpod" \
      org.opencontainers.image.description="Serves PyTorch models over HTTP and gRPC, and tells the kubelet the truth" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# By number, so that a kubelet sees that it is not root.
USER 10001:10001
EXPOSE 8080 9090
ENTRYPOINT ["torchpod"]
CMD ["serve", "/models"]

FROM server AS cuda
COPY --from=libtorch /cpu/ /
COPY --from=libtorch-cuda /cuda/ /
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ${BASE_IMAGE} AS packages
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY models/digits/requirements.txt /tmp/
# PyPI's torch cannot be imported without the CUDA libraries that it links. What only a GPU or a compiler would load goes.
RUN python3 -m venv /opt/train \
 && /opt/train/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --only-binary=:all: \
      -r /tmp/requirements.txt \
 && cd /opt/train/lib/python3.11/site-packages \
 && rm -rf torch/include torch/bin/protoc* torch/bin/ptxas torch/lib/libtorch_cuda_linalg.so \
           nvidia/*/include nvidia/cudnn/lib/libcudnn_* nvidia/cu13/lib/libnvperf* \
 && find nvidia -name '*.a' -delete

FROM ${BASE_IMAGE} AS trainer
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin torchpod
COPY --from=packages /opt/train /opt/train
COPY LICENSE /usr/local/share/doc/torchpod/
COPY models/digits/*.py models/digits/model.toml models/digits/labels.txt /opt/digits/
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="torchpod-trainer" \
      org.opencontainers.image.description="Trains torchpod's example model, in one process or in several" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
# Lines that are printed are lines that a log shows. PyTorch makes a folder for compiled code, of which there is none here,
# as it starts: one that exists it need not make, and so the root need not be writable, nor a /tmp be there.
ENV PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=/opt/train
ENTRYPOINT ["/opt/train/bin/python", "/opt/digits/train.py"]

FROM server AS cpu
COPY --from=libtorch /cpu/ /
