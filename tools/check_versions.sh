#!/usr/bin/env bash
# The tests on every Python from 3.11 to 3.13 that is here, and once with the lowest versions that pyproject.toml allows.
# What cannot be installed (no build of torch for that Python without gigabytes of CUDA, say) is told and left out.
#
#   tools/check_versions.sh            all of them
#   tools/check_versions.sh 3.12       one Python
#   tools/check_versions.sh lowest     the lowest versions
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

check() { # NAME PYTHON [ARGUMENTS OF PIP]
  local name=$1 python=$2
  shift 2
  echo "== $name"
  "$python" -m venv "$folder/$name" || { failed=1; return; }
  if ! "$folder/$name/bin/python" -m pip install -q --only-binary torch "$@" >"$folder/$name.log" 2>&1; then
    echo "   left out: $(grep -m1 -E 'ERROR|error' "$folder/$name.log" || tail -n 1 "$folder/$name.log")"
    return
  fi
  "$folder/$name/bin/python" -m pytest -q -p no:cacheprovider || failed=1
}

pythons() { # each Python by its name on the PATH, or as pyenv keeps it
  for version in 3.11 3.12 3.13; do
    [ $# -gt 0 ] && [ "$1" != "$version" ] && continue
    local found
    found=$(command -v "python$version" || ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python 2>/dev/null | tail -n 1)
    # The tested versions, with torch's CPU build: another would bring gigabytes of CUDA.
    [ -n "$found" ] && check "python$version" "$found" -c constraints.txt 'torch==2.13.0+cpu' -e '.[dev,track]'
  done
}

lowest() {
  local python
  python=$(command -v python3.11 || command -v python3)
  "$python" -m venv "$folder/uv" && "$folder/uv/bin/pip" install -q uv || { echo "   left out: uv cannot be installed"; return; }
  "$folder/uv/bin/uv" pip compile -q --resolution lowest-direct --python "$python" pyproject.toml --extra dev --extra track \
    --find-links "${PIP_FIND_LINKS:-.}" -o "$folder/lowest.txt" || { echo "   left out: the lowest versions cannot be resolved"; return; }
  check lowest "$python" -r "$folder/lowest.txt" -e .
}

case "${1:-all}" in
  all) pythons; lowest ;;
  lowest) lowest ;;
  *) pythons "$1" ;;
esac
exit "$failed"
