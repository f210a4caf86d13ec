// The plans in a model file.
#pragma once

#include <map>
#include <string_view>
#include <vector>

#include "json.h"
#include "model_file.h"

namespace lc {

using TensorIndex = std::map<std::string_view, int>;  // where in ModelFile::tensors a name is

// A plan from its JSON, the member of an object. Throws FileError.
FilePlan read_plan(Json::Value plan, const std::vector<Tensor>& tensors, const TensorIndex& index);

// Throws FileError unless `value` is an object with just these members.
void check_members(const std::string& what, Json::Value value, std::initializer_list<const char*> names);

}  // namespace lc
