# docker build -t autoseg .
# docker run --rm -v "$PWD:/data" autoseg plan my-dataset
# With a GPU add `--gpus all`; another torch: --build-arg TORCH="torch==2.13.0".

FROM python:3.11-slim AS build
WORKDIR /source
RUN pip install --no-cache-dir build
COPY pyproject.toml README.md LICENSE ./
COPY autoseg ./autoseg
COPY planners ./planners
RUN python -m build --wheel --outdir /dist

FROM python:3.11-slim
ARG TORCH=torch
RUN pip install --no-cache-dir "$TORCH"
COPY --from=build /dist /dist
RUN pip install --no-cache-dir /dist/*.whl
RUN useradd --create-home autoseg && mkdir /data && chown autoseg /data
USER autoseg
WORKDIR /data
ENTRYPOINT ["autoseg"]
CMD ["--help"]
