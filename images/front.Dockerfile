# The server as a front of vLLM (serving.engine: vllm): no torch, no GPU.
#   docker build -t vicuna-front:dev -f images/front.Dockerfile .
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /src
RUN python3 -m venv --without-pip /venv
# Dependencies before sources, in layers of their own: an edit of the code rebuilds the last, small one only.
COPY images/requirements/front.txt requirements.txt
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.txt

FROM dependencies AS own
COPY images/requirements/build.txt ./
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY server server
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --no-build-isolation --prefix /own . \
 && rm /own/bin/vicuna-operator /own/bin/kubectl-vicuna

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="vicuna-front" \
      org.opencontainers.image.description="The OpenAI-compatible API in front of a vLLM in the same pod" \
      org.opencontainers.image.licenses="Apache-2.0"
# LOGNAME: libraries ask for the user's name, and the user id (any will do) has none.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    LOGNAME=vicuna \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=dependencies /venv /venv
COPY --from=own /own /venv
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
ENTRYPOINT ["vicuna-server"]
CMD ["serve", "--help"]
