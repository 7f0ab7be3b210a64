// The engine without Python, for emulators: run_model MODEL IMAGES LEVEL THREADS. IMAGES holds uint8 images of the
// network's size, one behind the other. Writes their float32 logits to the standard output; ends with 2, and a line that
// says why, where the model or the level is refused. tests/native/test_arm.py builds it for ARM.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "../src/network.h"

int main(int count, char** arguments) {
  if (count != 5) {
    std::fprintf(stderr, "usage: run_model MODEL IMAGES LEVEL THREADS\n");
    return 2;
  }
  try {
    allmlp::FileSource model(arguments[1]), file(arguments[2]);
    allmlp::Network network(model, arguments[3], std::atoi(arguments[4]));
    const allmlp::Header& h = network.header();
    const int64_t image_bytes = int64_t(h.image_height) * h.image_width * 3, images = int64_t(file.size()) / image_bytes;
    std::vector<uint8_t> pixels(images * image_bytes);
    file.read(0, pixels.data(), pixels.size());
    std::vector<float> logits(images * h.classes);
    for (int64_t done = 0; done < images; done += network.together())
      network.run(pixels.data() + done * image_bytes, std::min<int64_t>(network.together(), images - done),
                  logits.data() + done * h.classes);
    std::fprintf(stderr, "%s\n", network.level());
    return std::fwrite(logits.data(), sizeof(float), logits.size(), stdout) == logits.size() ? 0 : 1;
  } catch (const std::exception& refusal) {
    std::fprintf(stderr, "%s\n", refusal.what());
    return 2;
  }
}
