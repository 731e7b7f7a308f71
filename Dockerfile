# The batch image: `docker run IMAGE train /config/run.yaml`. docs/container.md explains it.
#
# Everything comes from BASE_IMAGE's own distribution, the package index, and this folder. PyPI's
# torch brings its CUDA libraries, so the base needs none of them. No compiler is used or kept.
ARG BASE_IMAGE=docker.io/nvidia/cuda:13.0.3-base-ubuntu24.04

# --- what runs: Python and tini; what the base has already is not fetched ------------------------
FROM ${BASE_IMAGE} AS runtime
ARG DEBIAN_FRONTEND=noninteractive
# Debian keeps no old versions, so a pinned one could not be had for long: the base's release pins.
# hadolint ignore=DL3008
RUN set -- \
    && { command -v python3 >/dev/null || set -- "$@" python3; } \
    && { command -v tini >/dev/null || set -- "$@" tini; } \
    && { [ -s /etc/ssl/certs/ca-certificates.crt ] || set -- "$@" ca-certificates; } \
    && if [ "$#" -gt 0 ]; then \
         apt-get update && apt-get install -y --no-install-recommends "$@" \
         && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*; \
       fi \
    && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or later")'

# --- what is wanted, apart: a change of pyproject.toml that changes no dependency costs nothing --
FROM runtime AS wanted
ARG EXTRAS="demo"
COPY pyproject.toml /
RUN python3 -c "import sys, tomllib; \
    tree = tomllib.load(open('/pyproject.toml', 'rb')); \
    project, extras = tree['project'], sys.argv[1].replace(',', ' ').split(); \
    lines = project['dependencies'] + [x for e in extras for x in project['optional-dependencies'][e]]; \
    open('/requirements.txt', 'w').write('\n'.join(lines) + '\n'); \
    open('/builder.txt', 'w').write('\n'.join(tree['build-system']['requires']) + '\n')" "$EXTRAS" \
    && touch --date=@0 /requirements.txt /builder.txt

# --- dependencies, before the source; pip stays behind in this stage -----------------------------
FROM runtime AS dependencies
ARG DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || { \
      apt-get update && apt-get install -y --no-install-recommends python3-venv \
      && rm -rf /var/lib/apt/lists/*; }
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_ONLY_BINARY=:all:
COPY constraints.txt /
COPY --from=wanted /builder.txt /requirements.txt /
# A pip.conf with an index of your own, and its password: --secret id=pip.conf,src=FILE.
RUN --mount=type=secret,id=pip.conf,target=/root/.config/pip/pip.conf \
    python3 -m venv /opt/pip \
    && /opt/pip/bin/pip install --constraint /constraints.txt --requirement /builder.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install \
       --constraint /constraints.txt --requirement /requirements.txt \
    && find /opt/venv \( -type d -name tests -o -path '*/torch/test' -o -path '*/torch/bin/test_*' \) \
       -prune -exec rm -rf {} + \
    && echo /opt/codex-forge > "$(echo /opt/venv/lib/python3.*/site-packages)/codex-forge.pth"

# --- the source, in a layer of its own -----------------------------------------------------------
FROM dependencies AS source
COPY pyproject.toml README.md LICENSE /src/
COPY codex_forge /src/codex_forge
COPY jobs /src/jobs
RUN /opt/pip/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels /src \
    && /opt/pip/bin/pip install --no-index --no-deps --target /opt/codex-forge /wheels/*.whl

# --- the image -----------------------------------------------------------------------------------
FROM runtime
RUN echo 'forge:x:10001:10001:codex-forge:/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'forge:x:10001:' >> /etc/group
COPY --from=dependencies /opt/venv /opt/venv
COPY LICENSE /app/
COPY configs /app/configs
COPY examples /app/examples
COPY --from=source /opt/codex-forge /opt/codex-forge
# The root file system may be read-only: all that is written goes to /tmp, or where it is mounted.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    HOME=/tmp \
    LOGNAME=forge \
    XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    TORCH_HOME=/tmp/torch \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    TRITON_CACHE_DIR=/tmp/triton \
    HF_HUB_OFFLINE=1 \
    CODEX_FORGE_STORE=/data \
    CODEX_FORGE_CHROMA=/tmp/chroma \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/venv/bin/python", "-m", "jobs"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="codex-forge" \
      org.opencontainers.image.description="Fine-tunes an embedding model on a corpus, and proves whether it helped" \
      org.opencontainers.image.source="https://github.com/codex-forge/codex-forge" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
