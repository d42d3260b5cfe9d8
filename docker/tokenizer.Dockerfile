# The tokenizer service: chat templates, encoding, detokenizing, over gRPC.
#
#   docker build --file docker/tokenizer.Dockerfile --tag headrace-tokenizer:0.1.0 .
#
# The base is named by its tag; to hold it to one content, give its digest (docker/README.md):
#   --build-arg BASE=docker.io/library/python@sha256:…

ARG BASE=docker.io/library/python:3.12.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY docker/build-wheel.sh docker/
COPY headrace headrace
COPY edge edge
COPY tokenizer_svc tokenizer_svc
COPY worker worker
COPY requirements requirements
RUN docker/build-wheel.sh /wheel
# Without pip: the environment is copied, and nothing is installed into it later.
RUN python3 -m venv --without-pip /opt/headrace
COPY docker/install.sh docker/packages.py docker/imports.py docker/
RUN docker/install.sh tokenizer /opt/headrace/bin/python /wheel

FROM ${BASE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="headrace-tokenizer" \
      org.opencontainers.image.description="Chat templates, encoding and detokenizing over gRPC" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# The base's own pip goes; a name for the user, which some libraries ask for.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.12/ensurepip \
      /usr/local/lib/python3.12/site-packages/* \
    && echo 'headrace:x:65532:65532:headrace:/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'headrace:x:65532:' >> /etc/group
COPY --from=build /opt/headrace /opt/headrace
# PYTHONSAFEPATH: nothing is imported from the folder that the process is started in.
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HEADRACE_MODELS__CACHE_DIR=/models
USER 65532:65532
WORKDIR /
EXPOSE 50052
# Kubernetes' probes ask the service itself; Docker's would start a process for each question.
HEALTHCHECK NONE
STOPSIGNAL SIGTERM
ENTRYPOINT ["headrace", "tokenizer"]
