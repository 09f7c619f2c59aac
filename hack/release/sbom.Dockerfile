# Lists the Python packages of an image, as CycloneDX and as pip sees them. Neither tool is in the image itself.
ARG PYTHON_IMAGE
ARG IMAGE

FROM ${IMAGE} AS image

FROM ${PYTHON_IMAGE} AS lists
COPY hack/release/requirements.txt ./
RUN python3 -m venv --without-pip /tool \
 && pip --python /tool/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.txt
COPY --from=image /venv /venv
RUN mkdir /lists \
 && /tool/bin/cyclonedx-py environment --output-reproducible --output-format JSON --output-file /lists/sbom.json \
      /venv/bin/python \
 && /tool/bin/python -m pip --python /venv/bin/python list --format json > /lists/installed.json

FROM scratch
COPY --from=lists /lists /
