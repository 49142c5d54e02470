#include "pipeline/graph/recipe_table.h"

#include <utility>

#include "pipeline/error.h"

namespace onnxferry {

std::pair<const NamedRecipe&, bool> RecipeTable::add(std::string name, Recipe recipe) {
  const auto known = by_name_.find(name);
  if (known != by_name_.end()) {
    return {*known->second, false};
  }
  const NamedRecipe& entry = entries_.emplace_back(std::move(name), std::move(recipe));
  by_name_.emplace(entry.name, &entry);
  return {entry, true};
}

const Recipe* RecipeTable::find(std::string_view name) const {
  const auto known = by_name_.find(name);
  return known == by_name_.end() ? nullptr : &known->second->recipe;
}

const Recipe& RecipeTable::at(std::string_view name) const {
  const Recipe* const recipe = find(name);
  EXPORT_CHECK(recipe != nullptr, "no initializer has the name " + std::string(name));
  return *recipe;
}

void RecipeTable::keep_if(const std::function<bool(const NamedRecipe&)>& is_kept) {
  if (std::erase_if(entries_, [&](const NamedRecipe& entry) { return !is_kept(entry); }) > 0) {
    index();
  }
}

void RecipeTable::index() {
  by_name_.clear();
  for (const NamedRecipe& entry : entries_) {
    by_name_.emplace(entry.name, &entry);
  }
}

}  // namespace onnxferry
