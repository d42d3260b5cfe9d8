# A worker on GPUs: this project's wheel beside TensorRT-LLM, on NVIDIA's image.
#
#   docker build --file docker/worker-tensorrt-llm.Dockerfile --tag headrace-worker-tensorrt-llm:0.1.0 .
#
# Nothing that NVIDIA's image holds is changed: what we need and it lacks is added, by hash, and the
# build ends with an error where a version that it has is outside our ranges (docker/README.md).
# By digest: --build-arg BASE=nvcr.io/nvidia/tensorrt-llm/release@sha256:…

ARG BASE=nvcr.io/nvidia/tensorrt-llm/release:1.2.1
ARG BUILD_BASE=docker.io/library/python:3.12.12-slim-bookworm

FROM ${BUILD_BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY docker/build-wheel.sh docker/
COPY headrace headrace
COPY edge edge
COPY tokenizer_svc tokenizer_svc
COPY worker worker
COPY requirements requirements
RUN docker/build-wheel.sh /wheel
COPY docker/install.sh docker/packages.py docker/imports.py docker/

FROM ${BASE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="headrace-worker-tensorrt-llm" \
      org.opencontainers.image.description="A worker on GPUs: TensorRT-LLM behind gRPC streams" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER root
# Into the image's own Python, which starts the ranks too. Scripts, locks and wheel are mounted for
# this step alone. NVIDIA's image is a development image: its compilers stay, Triton needs one.
RUN --mount=type=bind,from=build,source=/src,target=/src \
    --mount=type=bind,from=build,source=/wheel,target=/wheel \
    /src/docker/install.sh worker-tensorrt-llm "$(command -v python3)" /wheel
# A name for the user: Open MPI and torch ask for one.
RUN echo 'headrace:x:65532:65532:headrace:/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'headrace:x:65532:' >> /etc/group
# What libraries compile or write goes to /tmp, the one folder that must be writable.
ENV PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=headrace \
    XDG_CACHE_HOME=/tmp/cache \
    TRITON_CACHE_DIR=/tmp/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/torchinductor \
    FLASHINFER_WORKSPACE_BASE=/tmp/cache \
    HF_HOME=/tmp/cache/huggingface \
    HF_HUB_OFFLINE=1 \
    HEADRACE_MODELS__CACHE_DIR=/models \
    HEADRACE_WORKER__ENGINE=tensorrt_llm
USER 65532:65532
WORKDIR /
EXPOSE 50061
# Kubernetes' probes ask the service itself; Docker's would start a process for each question.
HEALTHCHECK NONE
STOPSIGNAL SIGTERM
# In place of NVIDIA's, which prints notices and sets up libraries for older drivers: 580 is needed.
ENTRYPOINT ["headrace", "worker"]
