-- Whether a stream ends as it should.
--
-- `filter lua.hapilot-watch` stands in the backends that want it. Nothing is held back or changed. Of a stream of events it sets, at
-- its end,
--   txn.stream_end   `error`, `limit` or `overload`: an event said so; `cut`: it ended without its end
-- Each byte is looked at a fixed number of times, however the text is cut: lines are found by a plain search, and no pattern but an
-- anchored one looks at the first bytes of a line.

local find, sub, match, lower, byte, min = string.find, string.sub, string.match, string.lower, string.byte, math.min
local CONTINUE = filter.CONTINUE
-- Of a line so much is looked at.
local HEAD = 1024
-- How the path of a request ends, and how its stream does: a text, names of events, or a word in an event.
local ENDS = {
  { '/completions$', text = true },
  { '/messages$', names = { message_stop = true } },
  { '/responses$', names = { ['response.completed'] = true, ['response.incomplete'] = true, ['response.failed'] = true } },
  { ':streamGenerateContent$', word = '"finishReason"' },
}
local LIMITED = { 'rate_limit', 'rate limit', 'resource_exhausted', '"code":429', 'too_many_requests' }
local OVERLOADED = { 'overloaded', '"unavailable"', '"code":503', '"code":529' }

local function has(text, words)
  for i = 1, #words do
    if find(text, words[i], 1, true) then return true end
  end
end

local function class(text)
  text = lower(text)
  return has(text, LIMITED) and 'limit' or has(text, OVERLOADED) and 'overload' or 'error'
end

-- What the line from a place on says.
local function take_line(self, text, at, last)
  local first = byte(text, at)
  if first == 100 then
    local data = match(text, '^data:[ \t]*()', at)
    if not data then return end
    if self.name == 'error' then
      self.failed = class(sub(text, at, min(last, at + HEAD)))
      return
    end
    local sign = byte(text, data)
    if sign == 91 then
      if self.text and sub(text, data, data + 5) == '[DONE]' then self.is_ended = true end
    elseif sign == 123 then
      local key, value = match(text, '^{[ \t]*"(%l+)"[ \t]*:[ \t]*()', data)
      local is_unnamed = not self.name or self.name == 'message'
      if key == 'error' then
        if is_unnamed and (byte(text, value) == 123 or find(text, '^"[^"]', value)) then
          self.failed = class(sub(text, at, min(last, at + HEAD)))
        end
      elseif key == 'type' then
        local kind = match(text, '^"([%l._]+)"', value)
        if kind == 'error' then
          if is_unnamed then self.failed = class(sub(text, at, min(last, at + HEAD))) end
        elseif kind and self.names and self.names[kind] then
          self.is_ended = true
        end
      end
    end
  elseif first == 101 then
    local name = match(text, '^event: ?([%w._]+)', at)
    if name then
      self.name = name
      if name == 'error' then self.failed = self.failed or 'error' end
      if self.names and self.names[name] then self.is_ended = true end
    end
  end
end

local function take(self, text)
  local word = self.word
  if word and not self.is_ended then
    if find(text, word, 1, true) or find(self.before .. sub(text, 1, #word - 1), word, 1, true) then
      self.is_ended = true
    end
    self.before = sub(self.before .. sub(text, 1 - #word), 1 - #word)
  end
  local at, length = 1, #text
  local line = self.line
  if line then
    -- The rest of a line that began before.
    local last = find(text, '\n', 1, true)
    if #line < HEAD then line = line .. sub(text, 1, min((last or length + 1) - 1, HEAD - #line)) end
    if not last then
      self.line = line
      return
    end
    take_line(self, line, 1, #line)
    self.line, at = nil, last + 1
  end
  while at <= length do
    local first = byte(text, at)
    if first == 10 or first == 13 then
      -- An empty line ends an event.
      self.name = nil
      at = match(text, '^[\r\n]+()', at)
    else
      local last = find(text, '\n', at, true)
      if not last then
        self.line = sub(text, at, min(length, at + HEAD - 1))
        return
      end
      take_line(self, text, at, last - 1)
      at = last + 1
    end
  end
end

local warnings = 0
local function guarded(self, what, txn, message)
  local is_well, result = pcall(what, self, txn, message)
  if is_well then return end
  self.is_broken = true
  warnings = warnings + 1
  if warnings <= 10 then core.Warning('hapilot-watch: ' .. tostring(result)) end
end

local function payload_of(self, _, message)
  if message:input() == 0 then return end
  local text = message:body()
  if text and text ~= '' then take(self, text) end
end

local function finish(self, txn)
  if self.line then take_line(self, self.line, 1, #self.line) end
  local said = self.failed or self.is_through and self.awaits and not self.is_ended and 'cut'
  if said then txn:set_var('txn.stream_end', said) end
end

local Watch = { id = 'hapilot-watch', flags = filter.FLT_CFG_FL_HTX }

function Watch:http_payload(txn, message)
  if self.is_broken then
    filter.unregister_data_filter(self, message.channel)
    return
  end
  guarded(self, payload_of, txn, message)
end

function Watch:http_end(txn, message)
  if message.channel:is_resp() then self.is_through = true end
  return CONTINUE
end

function Watch:end_analyze(txn, channel)
  if channel:is_resp() then guarded(self, finish, txn) end
  return CONTINUE
end

local payload, through, at_end = Watch.http_payload, Watch.http_end, Watch.end_analyze

local function begin(self, txn, message)
  self.http_headers = false
  local fetches = txn.sf
  if txn.f:status() ~= 200 or not find(fetches:res_hdr('content-type'):lower(), '^text/event%-stream') then return end
  local encoding = fetches:res_hdr('content-encoding')
  if encoding ~= '' and encoding:lower() ~= 'identity' then return end
  self.before = ''
  local path = self.path
  for i = 1, #ENDS do
    local way = ENDS[i]
    if find(path, way[1]) then
      self.awaits, self.text, self.names, self.word = true, way.text, way.names, way.word
      break
    end
  end
  self.http_payload, self.http_end, self.end_analyze = payload, through, at_end
  filter.register_data_filter(self, message.channel)
end

function Watch:http_headers(txn, message)
  if message.channel:is_resp() then guarded(self, begin, txn, message)
  else self.path = txn.sf:path() end
  return CONTINUE
end
local headers = Watch.http_headers

function Watch:new()
  return { http_headers = headers, http_payload = false, http_end = false, end_analyze = false, path = '' }
end

core.register_filter('hapilot-watch', Watch, function(class) return class end)
