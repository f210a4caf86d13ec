// fuzz [-runs=N] [-max_total_time=SECONDS] [-seed=N] FOLDER...: mutates the model files in the folders, first running
// each as it is, and mutates again what was sound. An input that ends the process is left in the file "crash".
#include <sanitizer/common_interface_defs.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "mutate.h"
#include "target.h"

namespace {

constexpr size_t kMostKept = 256;  // sound mutants beside the seeds

std::string current;

void keep_current() {
  std::ofstream("crash", std::ios::binary) << current;
  std::fprintf(stderr, "the input is in the file \"crash\"\n");
}

void run(const std::string& input) {
  current = input;
  fuzz::run_one(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  int64_t runs = -1, seconds = -1;
  uint64_t seed = 1;
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    if (name == "-runs" || name == "-max_total_time")
      (name == "-runs" ? runs : seconds) = std::stoll(argument.substr(equals + 1));
    else if (name == "-seed")
      seed = std::stoull(argument.substr(equals + 1));
    else
      for (const auto& entry : std::filesystem::directory_iterator(argument))
        if (entry.path().extension() == ".safetensors") {
          std::ifstream file(entry.path(), std::ios::binary);
          corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        }
  }
  if (corpus.empty())
    return std::fprintf(stderr, "expected a folder of model files\n"), 2;
  __sanitizer_set_death_callback(keep_current);
  std::signal(SIGABRT, [](int) { keep_current(); });

  const auto begun = std::chrono::steady_clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(); };
  const size_t seeds = corpus.size();
  for (const std::string& file : corpus) run(file);
  fuzz::Random random(seed);
  while ((runs < 0 || fuzz::counts.runs < runs) && (seconds < 0 || passed() < static_cast<double>(seconds))) {
    const int64_t sound = fuzz::counts.sound;
    run(fuzz::mutate(corpus[random.below(corpus.size())], corpus[random.below(seeds)], &random));
    if (fuzz::counts.sound > sound) {
      if (corpus.size() < seeds + kMostKept)
        corpus.push_back(current);
      else
        corpus[seeds + random.below(kMostKept)] = current;
    }
  }
  std::printf("%lld runs in %.0f s: %lld sound, %lld opened, %lld functions bound\n",
              static_cast<long long>(fuzz::counts.runs), passed(), static_cast<long long>(fuzz::counts.sound),
              static_cast<long long>(fuzz::counts.opened), static_cast<long long>(fuzz::counts.bound));
}
