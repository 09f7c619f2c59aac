# The merge and serving containers.
#   CPU:  docker build -t vicuna-server:dev -f images/server.Dockerfile --build-arg TORCH_INDEX_URL=URL .
#         URL is PyTorch's index of CPU wheels; leave it out where pip is configured to find such a wheel.
#   CUDA: docker build -t vicuna-server:dev-cuda -f images/server.Dockerfile --build-arg VARIANT=cuda .
#         torch's own wheels carry the CUDA runtime; bitsandbytes comes with them.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /src
ARG VARIANT=cpu
ARG TORCH_INDEX_URL=
ARG TORCH_SHA256=
RUN python3 -m venv --without-pip /venv
# What changes rarely comes first, in layers of its own: torch, the other dependencies, the sources.
COPY constraints.txt ./
# CPU: torch has no hash in the lock, since each index of CPU wheels has files of its own under one version.
RUN case "$VARIANT" in cpu|cuda) ;; *) echo "VARIANT must be cpu or cuda, not '$VARIANT'" >&2; exit 64 ;; esac \
 && if [ "$VARIANT" = cpu ]; then \
      echo "$(grep '^torch==' constraints.txt)${TORCH_SHA256:+ --hash=sha256:$TORCH_SHA256}" > torch.txt \
      && pip --python /venv/bin/python install --no-cache-dir --no-deps \
        ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r torch.txt; \
    fi
COPY images/requirements/server-$VARIANT.txt requirements.txt
# A CPU image that took the CUDA wheel by mistake would be several GB too large: stop here instead.
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.txt \
 && /venv/bin/python -c "import torch; cuda = torch.version.cuda is not None; \
raise SystemExit(None if cuda == ('$VARIANT' == 'cuda') else 'torch is built ' + ('with' if cuda else 'without') \
+ ' CUDA, but this is the $VARIANT image: set the build argument TORCH_INDEX_URL')"

FROM dependencies AS own
COPY images/requirements/build.txt ./
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY server server
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --no-build-isolation --prefix /own . \
 && rm /own/bin/vicuna-operator /own/bin/kubectl-vicuna

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="vicuna-server" \
      org.opencontainers.image.description="Merges Vicuna weights and serves them over an OpenAI-compatible API" \
      org.opencontainers.image.licenses="Apache-2.0"
# LOGNAME: libraries ask for the user's name, and the user id (any will do) has none.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    LOGNAME=vicuna \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=dependencies /venv /venv
COPY --from=own /own /venv
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
ENTRYPOINT ["vicuna-server"]
CMD ["--help"]
