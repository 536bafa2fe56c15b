-- Whether a stream ends as it should.
--
-- `filter lua.hapilot-watch` stands in the backends that want it, below the one that counts. Nothing is held back or changed. Of a
-- stream of events it sets, at its end,
--   txn.stream_end   `error`, `limit`, `overload` or `request`: an event said so; `cut`: it ended without its end
-- Each byte is looked at a fixed number of times, however the text is cut: lines are found by a plain search, and no pattern but an
-- anchored one looks at the first bytes of a line.

local find, sub, match, lower, byte, min = string.find, string.sub, string.match, string.lower, string.byte, math.min
local CONTINUE = filter.CONTINUE
-- Of a line so much is looked at.
local HEAD = 1024
-- How the path of a request ends, and how its stream does: a text, names of events, or words in an event. Quotes within what a
-- model says are escaped, so that no text of it has such a word. `bad`: a word that tells of an error.
local ENDS = {
  { '/completions$', text = true, bad = '"finish_reason":"error"' },
  { '/messages$', names = { message_stop = true } },
  { '/responses$', names = { ['response.completed'] = true, ['response.incomplete'] = true, ['response.failed'] = true } },
  { ':streamGenerateContent$', words = { '"finishReason":', '"blockReason":' } },
}
-- So many bytes of a piece are kept, one less than the longest of the words has.
local KEPT = 22
-- What an error tells, without blanks. The request's own mistake comes first, since its text may say whatever a client wrote.
local OF_REQUEST = { 'invalid_request', 'invalid_prompt', 'invalid_argument', 'badrequest', 'content_filter', 'context_length',
  '"code":400' }
local LIMITED = { 'rate_limit', 'ratelimit', 'resource_exhausted', '"code":429', 'too_many_requests', 'toomanyrequests' }
local OVERLOADED = { 'overloaded', '"unavailable"', '"code":503', '"code":529' }

local function has(text, words)
  for i = 1, #words do
    if find(text, words[i], 1, true) then return true end
  end
end

-- The first error counts.
local function fail(self, text, at, last)
  if self.is_classed then return end
  local said = lower(sub(text, at, min(last, at + HEAD))):gsub('%s', '')
  self.failed = has(said, OF_REQUEST) and 'request' or has(said, LIMITED) and 'limit' or has(said, OVERLOADED) and 'overload' or 'error'
  self.is_classed = true
end

-- What the line from a place on says.
local function take_line(self, text, at, last)
  local first = byte(text, at)
  if self.is_first then
    self.is_first = nil
    -- A byte order mark.
    if first == 239 and sub(text, at, at + 2) == '\xEF\xBB\xBF' then
      at = at + 3
      first = byte(text, at)
    end
  end
  if first == 100 then
    local data = match(text, '^data:[ \t]*()', at)
    if not data then return end
    if self.name == 'error' then return fail(self, text, at, last) end
    local sign = byte(text, data)
    if sign == 91 then
      if self.text and sub(text, data, data + 5) == '[DONE]' then self.is_ended = true end
    elseif sign == 123 then
      local key, value = match(text, '^{[ \t]*"(%l+)"[ \t]*:[ \t]*()', data)
      local is_unnamed = not self.name or self.name == 'message'
      if key == 'error' then
        if is_unnamed and (byte(text, value) == 123 or find(text, '^"[^"]', value)) then fail(self, text, at, last) end
      elseif key == 'type' then
        local kind = match(text, '^"([%l._]+)"', value)
        if kind == 'error' then
          if is_unnamed then fail(self, text, at, last) end
        elseif kind and self.names and self.names[kind] then
          self.is_ended = true
          if kind == 'response.failed' then
            -- What comes before may be a client's.
            local said = sub(text, at, min(last, at + HEAD))
            local of_error = find(said, '"error":', 1, true) or find(said, '"error" :', 1, true) or #said
            fail(self, said, of_error, min(#said, of_error + 256))
          end
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

local function has_word(self, text, word)
  return find(text, word, 1, true) or find(self.before .. sub(text, 1, #word - 1), word, 1, true)
end

-- Words that may stand anywhere in a line.
local function seek(self, text)
  local words, bad = self.words, self.bad
  if words and not self.is_ended then
    for i = 1, #words do self.is_ended = self.is_ended or has_word(self, text, words[i]) end
  end
  if bad and not self.failed and has_word(self, text, bad) then self.failed = 'error' end
  self.before = sub(#text < KEPT and self.before .. text or text, -KEPT)
end

-- How the lines of this stream end is told by its first one. Where that is `\r`, what comes next tells.
local function learn(self, text)
  local at = self.is_half and 0 or find(text, '[\r\n]')
  if not at then return end
  if at > 0 and byte(text, at) == 10 then
    self.mark = '\n'
  elseif at == #text then
    self.is_half = true
  else
    self.mark = byte(text, at + 1) == 10 and '\n' or '\r'
    if at == 0 and self.mark == '\r' and self.line then
      take_line(self, self.line, 1, #self.line)
      self.line = nil
    end
  end
end

local function take(self, text)
  if self.words or self.bad then seek(self, text) end
  if not self.mark then learn(self, text) end
  local at, length, mark = 1, #text, self.mark or '\n'
  local line = self.line
  if line then
    -- The rest of a line that began before.
    local last = find(text, mark, 1, true)
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
      local last = find(text, mark, at, true)
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

-- Whether it was not the client that broke a stream off.
local function is_of_server(txn)
  local state = txn.f.txn_sess_term_state
  if state then return find(state(txn.f) or '', '^[SsP]') end
  -- Before HAProxy 3.0: nothing comes from there any more, and from the client it might.
  return not txn.res:may_recv() and txn.req:may_recv()
end

local function finish(self, txn)
  if self.is_broken then return end
  if self.line then take_line(self, self.line, 1, #self.line) end
  local said = self.failed
  if not said and not self.is_ended then
    local is_cut
    if self.is_through then is_cut = self.awaits else is_cut = is_of_server(txn) end
    said = is_cut and 'cut'
  end
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
  self.before, self.is_first = '', true
  local path = self.path
  for i = 1, #ENDS do
    local way = ENDS[i]
    if find(path, way[1]) then
      self.awaits, self.text, self.names, self.words, self.bad = true, way.text, way.names, way.words, way.bad
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
