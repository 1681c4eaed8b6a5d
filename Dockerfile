# The app, on a CPU: docker build -t captioner . && docker run -p 7860:7860 captioner
# A smaller image, with PyTorch for CPUs alone: --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels>
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/app

# Before the program, so that a change to it does not install everything again.
ARG PIP_EXTRA_INDEX_URL
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt

COPY --chown=user app.py LICENSE.md ./
COPY --chown=user captioner captioner
COPY --chown=user assets assets
RUN chown user .

USER user
EXPOSE 7860
CMD ["python", "app.py", "--host", "0.0.0.0"]
