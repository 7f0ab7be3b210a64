"""The bare FastAPI service that serve_load.py compares with: python serve_fastapi.py MODEL PORT"""

import sys

import uvicorn
from answer import answering
from fastapi import FastAPI, UploadFile

if __name__ == "__main__":
    answer = answering(sys.argv[1])
    app = FastAPI()

    @app.post("/predict")
    def predict(request: UploadFile) -> dict:
        return answer([request.file.read()])[0]

    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
