// Python's lock, which is given back while the engine works.
#pragma once

#include <Python.h>

#include <chrono>
#include <thread>

namespace allmlp {

// Gives the lock back for as long as it lives. Up to version 3.13 Python ends a thread that asks for the lock while the
// program ends, by pthread_exit, which goes up the stack as an exception does and would abort the program at the next
// function that may throw none. Such a thread waits here instead, as it does in later versions.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* const state_;
};

}  // namespace allmlp
