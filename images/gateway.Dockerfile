# The gateway: one address for all models. No torch, no kopf.
#   docker build -t vicuna-gateway:dev -f images/gateway.Dockerfile .
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /src
RUN python3 -m venv --without-pip /venv
# Dependencies before sources, in layers of their own: an edit of the code rebuilds the last, small one only.
COPY images/requirements/gateway.txt requirements.txt
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
LABEL org.opencontainers.image.title="vicuna-gateway" \
      org.opencontainers.image.description="One OpenAI-compatible address for every VicunaModel of a cluster" \
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
EXPOSE 8000 9090
ENTRYPOINT ["vicuna-server"]
CMD ["gateway", "--help"]
