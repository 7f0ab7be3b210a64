"""The LitServe service that serve_load.py compares with: python serve_litserve.py MODEL PORT"""

import sys

import litserve
from answer import answering

MODEL = sys.argv[1]  # a worker gets the same arguments


class Api(litserve.LitAPI):
    def setup(self, device) -> None:
        self.answer = answering(MODEL)

    def decode_request(self, request) -> bytes:
        return request["request"].file.read()

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def predict(self, x):
        return self.answer(x)

    def encode_response(self, output) -> dict:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=32, batch_timeout=0.0), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[2]), log_level="error", generate_client_file=False)
