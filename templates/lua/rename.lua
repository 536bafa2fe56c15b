-- What a server calls the model that a client asks for.
--
-- Runs in the hop of a server that has names of its own. `http-request lua.hapilot-rename` finds where the model stands, and
-- sets it where that is the path or the query; the filter `lua.hapilot-rename` replaces it in the body as that passes. How long
-- both names are is known by then, so that the length of the body is told right, and nothing is held back. Loaded behind
-- model.lua, whose reader it uses: the frontend has already refused what could be read in two ways.
--
-- Reads
--   txn.model      the model that the client asks for
--   txn.upstream   what it is called here: ASCII without blanks, quotes and backslashes
-- Sets
--   txn.refusal    why that cannot be done, as the body of an answer; txn.refusal_status beside it
--   txn.renames    FIRST:LAST of each place in the body, separated by blanks; and txn.rename_text, what stands there then

local find, sub, byte, match, format, max = string.find, string.sub, string.byte, string.match, string.format, math.max
local CONTINUE = filter.CONTINUE
local models = hapilot_models

-- So many places of a body are renamed at most; more of them are refused. Nobody but Gemini's embeddings has more than two.
local MOST_PLACES, MOST_EMBEDDINGS = 16, 250
-- So much longer a body may always become: HAProxy keeps 1,024 bytes of each buffer free.
local ROOM = 900

local function hex(character) return format('%%%02X', byte(character)) end

local function encoded(text) return (text:gsub('[^%w._~-]', hex)) end

-- The same path with the name in it: Gemini, Azure, Bedrock, OpenAI; and what stands behind the name. Nothing where it names no
-- model.
local function renamed_path(raw, method, model, upstream)
  local path = models.plain_path(raw)
  if not path then return nil end
  local name, first, last, behind, segments = models.of_path(method, raw, path)
  if name ~= model then return nil end
  local new = encoded(upstream)
  -- The rest of a path: names with a slash are spelt so there.
  if segments[1] == 'v1' and first == 3 and behind == '' then new = new:gsub('%%2F', '/'):gsub('%%3A', ':') end
  local before, after = table.concat(segments, '/', 1, first - 1), table.concat(segments, '/', last + 1)
  return '/' .. before .. '/' .. new .. behind .. (after == '' and '' or '/' .. after), behind
end

-- Gemini's embeddings name the model of the path in the body as well: `"model":"models/NAME"`, once for each text. Quotes within
-- a text are escaped, so that nothing else reads so.
local function names_beside(text, model)
  local places, at = {}, 1
  local what = '"models/' .. model .. '"'
  while true do
    local first, last = find(text, what, at, true)
    if not first or #places > MOST_EMBEDDINGS then return places end
    -- Not further back than a few blanks.
    if find(sub(text, max(1, first - 40), first - 1), '"model"%s*:%s*$') then
      places[#places + 1] = { first = first + 8, last = last - 1 }
    end
    at = last + 1
  end
end

-- The same query with the name in it.
local function renamed_query(query, model, upstream)
  local work = models.work(MOST_PLACES)
  if models.of_pairs(work, query) ~= model then return nil end
  for i = #work.places, 1, -1 do
    local place = work.places[i]
    query = sub(query, 1, place.first - 1) .. encoded(upstream) .. sub(query, place.last + 1)
  end
  return query
end

-- Where the only model of a plain JSON body stands, as nearly always: the frontend has found it at the top level, and no other
-- place has its letters, nor can it be written with escapes.
local function sole_place(text, model)
  if not find(text, '^%s*{') or find(text, '\\u', 1, true) then return nil end
  local first = find(text, 'odel', 1, true)
  if not first or find(text, 'odel', first + 4, true) then return nil end
  local from = match(text, '^"model"%s*:%s*"()', first - 2)
  if from and sub(text, from, from + #model) == model .. '"' then
    return { first = from, last = from + #model - 1, kind = 'json' }
  end
end

-- The places of a model in the body; nil and why where they cannot be told.
local function places_of(txn, model)
  local text = txn.sf:req_body()
  local sole = sole_place(text, model)
  if sole then return { sole } end
  local work = models.work(MOST_PLACES)
  local found, why = models.of_body(work, txn)
  if why or found ~= model then return nil, why end
  local places, has_json = {}, false
  for _, place in ipairs(work.places) do has_json = has_json or place.kind == 'json' end
  for _, place in ipairs(work.places) do
    -- What is JSON is no form, whatever it is called.
    if not (has_json and place.kind == 'pairs') then places[#places + 1] = place end
  end
  return places
end

-- Has these places replaced as the body passes; or says why not.
local function replace_later(txn, places, text, most, length)
  if #places == 0 then return end
  local growth, list = 0, {}
  for i, place in ipairs(places) do
    growth = growth + #text - (place.last - place.first + 1)
    list[i] = place.first .. ':' .. place.last
  end
  -- What does not fit into a buffer would never go on.
  local is_tight = growth > ROOM and length + growth > (txn:get_var('txn.buffer_bytes') or 0) - 8192
  if #places > most or is_tight then return models.refuse(txn, table.unpack(models.reasons.many)) end
  txn:set_var('txn.rename_text', text)
  txn:set_var('txn.renames', table.concat(list, ' '))
end

local function find_places(txn)
  local f = txn.sf
  local model, upstream = txn:get_var('txn.model'), txn:get_var('txn.upstream')
  local path, verb = renamed_path(f:path(), f:method(), model, upstream)
  if path then
    txn.http:req_set_path(path)
    if find(verb, 'mbedContent', 1, true) then
      local text = f:req_body()
      local told = max(tonumber(f:req_fhdr('content-length')) or 0, txn.f:req_body_size())
      -- Of what is not here nobody knows how often it is named there.
      if told > #text then return models.refuse(txn, table.unpack(models.reasons.late)) end
      replace_later(txn, names_beside(text, model), upstream, MOST_EMBEDDINGS, #text)
    end
    return
  end
  local query = f:query()
  query = query ~= '' and renamed_query(query, model, upstream)
  if query then txn.http:req_set_query(query) end
  local places, why = places_of(txn, model)
  if not places then
    -- Only the query had it.
    if query and not why then return end
    return models.refuse(txn, table.unpack(models.reasons[why or 'late']))
  end
  replace_later(txn, places, places[1].kind == 'pairs' and encoded(upstream) or upstream, MOST_PLACES, #f:req_body())
end

---------------------------------------------------------------- what HAProxy calls

local warnings = 0
local function guarded(what, ...)
  local is_well, result = pcall(what, ...)
  if is_well then return true, result end
  warnings = warnings + 1
  if warnings <= 10 then core.Warning('hapilot-rename: ' .. tostring(result)) end
end

-- HAProxy looks into this table once which callbacks there are, and into the request's own each time when it calls them.
local Rename = { id = 'hapilot-rename', flags = filter.FLT_CFG_FL_HTX }

local function begin(self, txn, message)
  local renames = txn:get_var('txn.renames')
  if not renames then return end
  self.text, self.edits = txn:get_var('txn.rename_text'), {}
  local growth = 0
  for first, last in string.gmatch(renames, '(%d+):(%d+)') do
    first, last = tonumber(first), tonumber(last)
    self.edits[#self.edits + 1] = { first = first, last = last }
    growth = growth + #self.text - (last - first + 1)
  end
  self.passed = 0
  local length = tonumber(txn.sf:req_hdr('content-length'))
  if length then
    if message.set_body_len then message:set_body_len(length + growth)
    -- HAProxy 2.6
    else txn.http:req_set_header('content-length', tostring(length + growth)) end
  end
  filter.register_data_filter(self, message.channel)
end

-- Returns how many bytes may pass; nothing: all. What stands between the first place and the last one is set at once: each time
-- moves all that follows.
local function replace(self, message)
  local body = message:body()
  if not body or body == '' then return end
  local edits, passed = self.edits, self.passed
  local from, to = edits[1].first - passed, edits[#edits].last - passed
  if to <= #body then
    local parts, at = {}, from
    for i, edit in ipairs(edits) do
      parts[2 * i - 1], parts[2 * i] = sub(body, at, edit.first - passed - 1), self.text
      at = edit.last - passed + 1
    end
    if message:set(table.concat(parts), from - 1, to - from + 1) ~= -1 then
      filter.unregister_data_filter(self, message.channel)
      return
    end
  end
  -- Not here yet, or there is no room: what stands before it goes first.
  self.passed = passed + from - 1
  return from - 1
end

-- Of the request alone.
function Rename:http_headers(txn, message)
  self.http_headers = nil
  if not message.channel:is_resp() then guarded(begin, self, txn, message) end
  return CONTINUE
end

function Rename:http_payload(_, message)
  local is_well, passes = guarded(replace, self, message)
  if not is_well then filter.unregister_data_filter(self, message.channel) end
  -- `return nil` would mean that nothing may pass.
  if passes then return passes end
end

function Rename:new() return { http_headers = Rename.http_headers, http_payload = Rename.http_payload } end

core.register_action('hapilot-rename', { 'http-req' }, function(txn)
  if not guarded(find_places, txn) then
    models.refuse(txn, 500, 'This gateway failed to name the model as its server calls it.')
  end
end)
core.register_filter('hapilot-rename', Rename, function(class) return class end)
