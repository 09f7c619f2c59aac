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
RUN python3 -m venv --without-pip /venv
# What changes rarely comes first, in layers of its own: torch, the other dependencies, the sources.
COPY constraints.txt ./
# A CPU image that took the CUDA wheel by mistake would be several GB too large: stop here instead.
RUN case "$VARIANT" in cpu|cuda) ;; *) echo "VARIANT must be cpu or cuda, not '$VARIANT'" >&2; exit 64 ;; esac \
 && pip --python /venv/bin/python install --no-cache-dir -c constraints.txt \
      ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} torch numpy \
 && /venv/bin/python -c "import torch; cuda = torch.version.cuda is not None; \
raise SystemExit(None if cuda == ('$VARIANT' == 'cuda') else 'torch is built ' + ('with' if cuda else 'without') \
+ ' CUDA, but this is the $VARIANT image: set the build argument TORCH_INDEX_URL')"
COPY pyproject.toml ./
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; e = p['optional-dependencies']; \
print(*p['dependencies'], *e['server'], *(e['gpu'] if '$VARIANT' == 'cuda' else []), sep='\n')" > requirements.txt \
 && pip --python /venv/bin/python install --no-cache-dir -r requirements.txt -c constraints.txt

FROM dependencies AS own
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY server server
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --prefix /own . \
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
