// The boundary to C: arguments checked, exceptions turned into a status and a message.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "include/latentcore.h"
#include "model_function.h"

namespace {

constexpr size_t kMaxBatch = 0x7fffffff, kMaxThreads = 256, kMaxOptions = 4096, kMostPath = 100;
constexpr size_t kFirst = 8;  // bytes of a file that tell the length of its header

// What a function takes and gives, in C. The plan must outlive it.
class Signature {
 public:
  explicit Signature(const lc::FilePlan& plan) {
    input_ = port(plan, plan.input);
    for (const int i : plan.outputs) outputs_.push_back(port(plan, i));
    for (const lc_port& output : outputs_) pointers_.push_back(&output);
    shown_ = {plan.name.c_str(), &input_, outputs_.size(), pointers_.data()};
  }
  Signature(const Signature&) = delete;
  const lc_signature* shown() const { return &shown_; }

 private:
  static lc_port port(const lc::FilePlan& plan, int buffer) {
    const lc::FileBuffer& b = plan.buffers[static_cast<size_t>(buffer)];
    return {b.name.c_str(), b.type == lc::Type::kFloat64 ? LC_FLOAT64 : LC_FLOAT32,
            static_cast<size_t>(b.row_bytes / lc::type_bytes(b.type))};
  }
  lc_port input_;
  std::vector<lc_port> outputs_;
  std::vector<const lc_port*> pointers_;
  lc_signature shown_;
};

// What the caller sees as an error.
struct Failure : std::runtime_error {
  lc_status status;
  Failure(lc_status what, const std::string& message) : std::runtime_error(message), status(what) {}
};

lc_status report(lc_error* error, lc_status status, const char* message) {
  if (error) {
    error->status = status;
    size_t length = std::strlen(message);
    if (length >= sizeof error->message) {
      length = sizeof error->message - 1;
      while (length && (message[length] & 0xc0) == 0x80) --length;  // not within a character of UTF-8
    }
    std::memcpy(error->message, message, length);
    error->message[length] = '\0';
  }
  return status;
}

// Runs what may throw.
template <class F>
lc_status guarded(lc_error* error, F&& body) {
  try {
    body();
    return report(error, LC_OK, "");
  } catch (const Failure& failure) {
    return report(error, failure.status, failure.what());
  } catch (const lc::FileError& failure) {
    return report(error, LC_ERROR_MODEL, failure.what());
  } catch (const std::invalid_argument& failure) {
    return report(error, LC_ERROR_ARGUMENT, failure.what());
  } catch (const std::bad_alloc&) {
    return report(error, LC_ERROR_MEMORY, "it takes more memory than there is");
  } catch (const std::system_error& failure) {
    return report(error, LC_ERROR_MEMORY, failure.what());
  } catch (const std::exception& failure) {
    return report(error, LC_ERROR_INTERNAL, failure.what());
  }
}

void expect(bool given, const char* name, const char* what) {
  if (!given)
    throw Failure(LC_ERROR_ARGUMENT, std::string(name) + ": expected " + what + ", got NULL");
}

// A path in a message: its end, where it is long.
std::string named(const char* path) {
  const size_t length = std::strlen(path);
  return length <= kMostPath ? path : "..." + std::string(path + length - kMostPath);
}

// Bytes that belong to a model, aligned for its tensors.
struct Bytes {
  std::unique_ptr<double[]> data;
  size_t size;
  explicit Bytes(size_t n) : size(n) {
    if (n > static_cast<size_t>(lc::physical_memory()))
      throw std::bad_alloc();
    data.reset(new double[n / sizeof(double) + 1]);
  }
};

struct File {
  int number;
  explicit File(const char* path) : number(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (number >= 0)
      close(number);
  }
};

Failure unreadable(const char* path, const std::string& why) {
  return Failure(LC_ERROR_FILE, named(path) + ": " + why);
}

// Reads so many bytes of a file.
void read_part(const char* path, const File& file, char* to, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = read(file.number, to + done, bytes - done);
    if (n == 0)
      throw unreadable(path, "it was shortened while it was read");
    if (n > 0)
      done += static_cast<size_t>(n);
    else if (errno != EINTR)
      throw unreadable(path, std::generic_category().message(errno));
  }
}

Bytes read_file(const char* path) {
  const File file(path);
  struct stat status;
  if (file.number < 0 || fstat(file.number, &status))
    throw unreadable(path, std::generic_category().message(errno));
  if (!S_ISREG(status.st_mode))
    throw unreadable(path, "expected a regular file");
  const auto size = static_cast<size_t>(status.st_size), first = std::min(size, kFirst);
  char head[kFirst];
  read_part(path, file, head, first);
  lc::ModelFile::header_bytes(head, size);
  Bytes bytes(size);
  auto* to = reinterpret_cast<char*>(bytes.data.get());
  std::memcpy(to, head, first);
  read_part(path, file, to + first, size - first);
  return bytes;
}

}  // namespace

struct lc_model {
  const Bytes bytes;
  const lc::ModelFile file;
  std::vector<std::unique_ptr<const Signature>> signatures;

  explicit lc_model(Bytes given) : bytes(std::move(given)), file(lc::ModelFile::parse(bytes.data.get(), bytes.size)) {
    lc::check_example(file);
    for (const lc::FilePlan& plan : file.plans) signatures.push_back(std::make_unique<const Signature>(plan));
  }
};

struct lc_function {
  lc::ModelFunction bound;
  const Signature signature;

  lc_function(std::shared_ptr<const lc::Snapshot> snapshot, const char* set, int64_t batch, int threads)
      : bound(std::move(snapshot), set, batch, threads, lc::physical_memory()), signature(bound.plan()) {}
  explicit lc_function(const lc::ModelFunction& other) : bound(other), signature(bound.plan()) {}
};

namespace {

// The caller's options in this version's struct.
lc_options known(const lc_options* given) {
  lc_options options = LC_OPTIONS_INIT;
  if (given) {
    if (given->size < sizeof options.size || given->size > kMaxOptions)
      throw Failure(LC_ERROR_ARGUMENT,
                    "options: expected size to be sizeof(lc_options), got " + std::to_string(given->size));
    std::memcpy(&options, given, std::min(given->size, sizeof options));
    const auto* bytes = reinterpret_cast<const char*>(given);
    for (size_t i = sizeof options; i < given->size; ++i)
      if (bytes[i])
        throw Failure(LC_ERROR_ARGUMENT, "options: they ask for what this version of the library does not have");
  }
  const auto check = [](const char* name, size_t& value, size_t most) {
    if (value > most)
      throw Failure(LC_ERROR_ARGUMENT, std::string(name) + ": expected at most " + std::to_string(most) + ", got " +
                                           std::to_string(value));
    value = std::max<size_t>(value, 1);
  };
  check("batch", options.batch, kMaxBatch);
  check("threads", options.threads, kMaxThreads);
  return options;
}

std::shared_ptr<const lc::Snapshot> snapshot_of(const lc_model& model, const char* name, const char* weights) {
  const auto& plans = model.file.plans;
  const auto plan = std::find_if(plans.begin(), plans.end(), [&](const lc::FilePlan& p) { return p.name == name; });
  if (plan == plans.end()) {
    std::string names;
    for (const lc::FilePlan& each : plans) names += (names.empty() ? "'" : ", '") + each.name + "'";
    throw Failure(LC_ERROR_ARGUMENT, "name: expected one of " + names + ", got '" + std::string(name) + "'");
  }
  const auto made = [&](bool is_double, lc::Storage storage) {
    return std::make_shared<const lc::Snapshot>(model.file, *plan, is_double, storage);
  };
  const std::string kind = weights ? weights : plan->is_double ? "float64" : "float32";
  if (kind == "float32")
    return made(false, lc::Storage::kFull);
  if (kind == "float64")
    return made(true, lc::Storage::kFull);
  if (const lc::Compressed* found = lc::find_compressed(kind.c_str()))
    return made(false, found->storage);
  std::string names = "'float32', 'float64'";
  for (const lc::Compressed& each : lc::kCompressed) names += ", '" + std::string(each.name) + "'";
  throw Failure(LC_ERROR_ARGUMENT, "weights: expected one of " + names + ", got '" + kind + "'");
}

}  // namespace

int lc_version(void) {
  return LC_VERSION;
}

const char* lc_status_text(lc_status status) {
  switch (status) {
    case LC_OK:
      return "no error";
    case LC_ERROR_ARGUMENT:
      return "an argument is wrong";
    case LC_ERROR_FILE:
      return "the file cannot be read";
    case LC_ERROR_MODEL:
      return "not a sound model file";
    case LC_ERROR_MEMORY:
      return "not enough memory";
    case LC_ERROR_BUSY:
      return "the function is running in another thread";
    case LC_ERROR_INTERNAL:
      return "an error of the library";
  }
  return "an unknown status";
}

lc_status lc_model_open(const char* path, lc_model** model, lc_error* error) {
  if (model)
    *model = nullptr;
  return guarded(error, [&] {
    expect(model, "model", "where to put a model");
    expect(path, "path", "the name of a file");
    try {
      *model = new lc_model(read_file(path));
    } catch (const lc::FileError& failure) {
      throw Failure(LC_ERROR_MODEL, named(path) + ": " + failure.what());
    }
  });
}

lc_status lc_model_open_memory(const void* data, size_t size, lc_model** model, lc_error* error) {
  if (model)
    *model = nullptr;
  return guarded(error, [&] {
    expect(model, "model", "where to put a model");
    expect(data, "data", "the bytes of a file");
    Bytes bytes(size);
    std::memcpy(bytes.data.get(), data, size);
    *model = new lc_model(std::move(bytes));
  });
}

void lc_model_free(lc_model* model) {
  delete model;
}

size_t lc_model_function_count(const lc_model* model) {
  return model ? model->signatures.size() : 0;
}

const lc_signature* lc_model_function(const lc_model* model, size_t index) {
  return index < lc_model_function_count(model) ? model->signatures[index]->shown() : nullptr;
}

lc_status lc_function_bind(const lc_model* model, const char* name, const lc_options* options, lc_function** function,
                           lc_error* error) {
  if (function)
    *function = nullptr;
  return guarded(error, [&] {
    expect(function, "function", "where to put a function");
    expect(model, "model", "an open model");
    expect(name, "name", "that of a function");
    const lc_options chosen = known(options);
    *function = new lc_function(snapshot_of(*model, name, chosen.weights),
                                chosen.instruction_set ? chosen.instruction_set : "auto",
                                static_cast<int64_t>(chosen.batch), static_cast<int>(chosen.threads));
  });
}

lc_status lc_function_run(lc_function* function, size_t rows, const void* input, void* const* outputs) {
  if (!function || !input || !outputs || rows > static_cast<size_t>(function->bound.batch()))
    return LC_ERROR_ARGUMENT;
  for (size_t i = 0; i < function->bound.plan().outputs.size(); ++i)
    if (!outputs[i])
      return LC_ERROR_ARGUMENT;
  lc_status status = LC_OK;
  const lc_status thrown = guarded(nullptr, [&] {
    switch (function->bound.run(static_cast<int64_t>(rows), input, outputs)) {
      case lc::ModelFunction::Outcome::kDone:
        break;
      case lc::ModelFunction::Outcome::kBusy:
        status = LC_ERROR_BUSY;
        break;
      case lc::ModelFunction::Outcome::kFailed:
        status = LC_ERROR_INTERNAL;
    }
  });
  return thrown ? thrown : status;
}

lc_status lc_function_clone(const lc_function* function, lc_function** clone, lc_error* error) {
  if (clone)
    *clone = nullptr;
  return guarded(error, [&] {
    expect(clone, "clone", "where to put a function");
    expect(function, "function", "a function");
    *clone = new lc_function(function->bound);
  });
}

void lc_function_free(lc_function* function) {
  delete function;
}

const lc_signature* lc_function_signature(const lc_function* function) {
  return function ? function->signature.shown() : nullptr;
}

const char* lc_function_instruction_set(const lc_function* function) {
  return function ? function->bound.instruction_set() : nullptr;
}
