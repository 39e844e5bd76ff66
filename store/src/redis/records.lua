-- The records of transfers that clients submit: steps and what is shared by them. It is one library with library.lua.
--
-- A record that is not in a final state is a field of `live`, whole, so that a step reads and writes those of a batch with one
-- command each, and so that it stays whatever its age. In its final state it goes
--   * to a bucket `r:SLICE:N`, without its details: a hash that a server with the default settings keeps as a listpack, since
--     no value is longer than 64 bytes and none has more than 128 fields. SLICE is a slice of time, a seventh of the window,
--     of the acceptance, so that a look-up asks for 9 slices at most, and buckets expire as they are. Their number grows with
--     the slice by linear hashing: after FILL more records one bucket is split in two. So a bucket holds between FILL
--     and twice that, from a single record up to any number;
--   * to the list `d:LEAF` of what was accepted in one short time, at the place that it has there: the details. Before it
--     has only its id there, for the order of births.
-- Times are milliseconds.

-- States by their numbers.
local QUEUED, SIGNED, SUBMITTED, FINALIZED, FAILED, CANCELLED, REVIEW = 0, 1, 2, 3, 4, 5, 6
-- Twice as many and a spread of three deviations stay below 128.
local FILL = 48
-- Events of one transfer, and the length of one without and with its hash.
local EVENTS, EVENT, HASHED = 32, 7, 39
-- Records that one step looks at to find those that are asked for.
local LOOKS = 500

local function windows(s)
    if not s.windows then
        local w = call('HMGET', s.at .. 'about', 'idempotency', 'details', 'slice', 'leaf')
        s.windows = {idempotency = tonumber(w[1]), details = tonumber(w[2]), slice = tonumber(w[3]), leaf = tonumber(w[4])}
        s.ms = math.floor(s.now / 1000)
    end
    return s.windows
end

local function is_over(s, r, window)
    return s.ms - r.created >= window
end

local function chunked(command, key, list)
    local out = {}
    for from = 1, #list, CHUNK do
        local some = call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
        for i = 1, #some do out[#out + 1] = some[i] end
    end
    return out
end

-- Into lists, by what `of` says of each.
local function grouped(list, of)
    local groups = {}
    for i = 1, #list do
        local key = of(list[i])
        local group = groups[key] or {}
        group[#group + 1] = list[i]
        groups[key] = group
    end
    return groups
end

local function unleb(text, at)
    local n, unit = 0, 1
    while true do
        local part = string.byte(text, at)
        at = at + 1
        if part < 128 then return n + part * unit, at end
        n = n + (part - 128) * unit
        unit = unit * 128
    end
end

-- The sum of decimal texts, which may be as long as 39 digits.
local function sum_of(a, b)
    local sum, carry = '', 0
    while a ~= '' or b ~= '' or carry > 0 do
        local part = (tonumber(string.sub(a, -14)) or 0) + (tonumber(string.sub(b, -14)) or 0) + carry
        carry = math.floor(part / 1e14)
        sum = string.format('%014d', part % 1e14) .. sum
        a, b = string.sub(a, 1, -15), string.sub(b, 1, -15)
    end
    sum = string.gsub(sum, '^0+', '')
    return sum == '' and '0' or sum
end

local function second(s)
    return math.floor(s.now / 1000000)
end

-- Counts what was accepted (1), finalized (2) and failed (3). That of the second under way is written with what each step
-- writes anyhow, and joins the last minute with the next.
local function tally(s, kind, by)
    local now = second(s)
    local at, counts = now, {0, 0, 0}
    local known = s.tally or call('HGET', s.at .. 'about', 'tally')
    if known then at, counts[1], counts[2], counts[3] = struct.unpack('>I5I4I4I4', known) end
    if at ~= now then
        local key, old = s.at .. 'minute', {}
        call('HSET', key, at, table.concat(counts, ':'))
        for _, field in ipairs(call('HKEYS', key)) do
            local before = tonumber(field) or tonumber(string.match(field, '^l(%d+)')) * 10
            if before < now - 70 then old[#old + 1] = field end
        end
        append('HDEL', key, old)
        counts = {0, 0, 0}
    end
    counts[kind] = counts[kind] + by
    s.tally = struct.pack('>I5I4I4I4', now, counts[1], counts[2], counts[3])
end

-- The bucket of a latency, as recent.rs has it.
local function octave_bucket(ms)
    local mantissa, exponent = math.frexp(math.max(ms, 1))
    return math.min((exponent - 1) * 8 + math.floor(mantissa * 16) - 8, 160)
end

-- A record is a table; `element` is its element of the queue while it is live, `payment` what that ends with (receiver,
-- amount, memo) where its details are kept.
local HEAD = '>BBI4I6I6I4BI2'

local function written(r, what, events)
    local state = r.state + (r.hash ~= '' and 8 or 0)
    local count = events and r.count or 0
    return struct.pack(HEAD, state, r.error, r.attempts, r.created, r.updated, r.index, count, #what)
        .. r.digest .. r.hash .. what .. (events or '')
end

local function read_live(id, text)
    local r, size, at = {id = id, live = true, hash = ''}, nil, nil
    r.state, r.error, r.attempts, r.created, r.updated, r.index, r.count, size, at = struct.unpack(HEAD, text)
    r.digest = string.sub(text, at, at + 15)
    at = at + 16
    if r.state >= 8 then
        r.state, r.hash = r.state - 8, string.sub(text, at, at + 31)
        at = at + 32
    end
    r.element, r.events = string.sub(text, at, at + size - 1), string.sub(text, at + size)
    r.payment = string.sub(r.element, 2 + length(r.element))
    return r
end

local function filed(s, r)
    local start = math.floor(r.created / s.windows.slice) * s.windows.slice
    return string.char(r.state + (r.hash ~= '' and 8 or 0) + 16 * r.error) .. leb(r.attempts) .. leb(r.created - start)
        .. leb(r.updated - r.created) .. leb(r.index) .. r.digest .. r.hash
end

local function read_filed(s, id, text, slice, bucket)
    local r, at = {id = id, bucket = bucket}, 2
    local head = string.byte(text)
    r.state, r.error = head % 8, math.floor(head / 16)
    r.attempts, at = unleb(text, at)
    r.created, at = unleb(text, at)
    r.updated, at = unleb(text, at)
    r.index, at = unleb(text, at)
    r.created = r.created + slice * s.windows.slice
    r.updated = r.updated + r.created
    r.digest, r.hash = string.sub(text, at, at + 15), string.sub(text, at + 16)
    return r
end

-- What a client is told.
local function told(r)
    return r.id .. written(r, r.payment or '', r.payment and r.events)
end

-- The bucket of an id among `count` records.
local function bucket_of(id, count)
    local buckets = math.floor(count / FILL) + 1
    local _, exponent = math.frexp(buckets)
    local at = struct.unpack('<I4', id) % 2 ^ exponent
    return at < buckets and at or at - 2 ^ (exponent - 1)
end

local function bucket_key(s, slice, at)
    return s.at .. 'r:' .. slice .. ':' .. at
end

local function put_in_bucket(s, slice, at, fields)
    if #fields == 0 then return end
    local key = bucket_key(s, slice, at)
    append('HSET', key, fields)
    if call('HLEN', key) == #fields / 2 then
        call('PEXPIRE', key, math.max(1, (slice + 1) * s.windows.slice + s.windows.idempotency - s.ms))
    end
end

-- Splits the bucket that becomes two where there are `buckets` before. Both are written anew: one that had grown too long
-- for a listpack is none of those any more.
local function split(s, slice, buckets)
    local _, exponent = math.frexp(buckets)
    local half = 2 ^ (exponent - 1)
    local parent = buckets - half
    local all = call('HGETALL', bucket_key(s, slice, parent))
    local stay, go = {}, {}
    for i = 1, #all, 2 do
        local to = struct.unpack('<I4', all[i]) % (2 * half) == buckets and go or stay
        to[#to + 1] = all[i]
        to[#to + 1] = all[i + 1]
    end
    if #go == 0 then return end
    call('UNLINK', bucket_key(s, slice, parent))
    put_in_bucket(s, slice, parent, stay)
    put_in_bucket(s, slice, buckets, go)
end

-- Puts records of one slice into their buckets.
local function file(s, slice, records)
    local slices = s.at .. 'slices'
    local count = call('HINCRBY', slices, slice, #records)
    local before = count - #records
    if before == 0 then
        for _, old in ipairs(call('HKEYS', slices)) do
            if (old + 1) * s.windows.slice + s.windows.idempotency <= s.ms then call('HDEL', slices, old) end
        end
    end
    for buckets = math.floor(before / FILL) + 1, math.floor(count / FILL) do split(s, slice, buckets) end
    for at, some in pairs(grouped(records, function(r) return bucket_of(r.id, count) end)) do
        local fields = {}
        for i, r in ipairs(some) do fields[2 * i - 1], fields[2 * i] = r.id, filed(s, r) end
        put_in_bucket(s, slice, at, fields)
    end
end

local function count(s, state, by)
    s.moved = s.moved or {}
    s.moved[state] = (s.moved[state] or 0) + by
end

local function event(state, kind, at, hash)
    return struct.pack('>BI6', state + 8 * kind, at) .. (kind == 1 and hash or '')
end

-- Into a state. `kind` of event: 0 has no hash, 1 tells the record's, 2 has the one that was told last.
local function move(s, r, state, kind)
    -- Its times do not go back, though a clock may.
    r.updated = math.max(s.ms, r.updated)
    count(s, r.state, -1)
    count(s, state, 1)
    r.state = state
    if not r.payment then return end
    if r.count >= EVENTS then
        -- The one in the middle goes; what it told, the next one tells.
        local at = 1
        for _ = 1, EVENTS / 2 do at = at + (math.floor(string.byte(r.events, at) / 8) == 1 and HASHED or EVENT) end
        local hashed = math.floor(string.byte(r.events, at) / 8) == 1
        local after = at + (hashed and HASHED or EVENT)
        local rest = string.sub(r.events, after)
        if hashed and math.floor(string.byte(rest) / 8) == 2 then
            local hash = string.sub(r.events, at + EVENT, at + HASHED - 1)
            rest = string.char(string.byte(rest) - 8) .. string.sub(rest, 2, EVENT) .. hash .. string.sub(rest, EVENT + 1)
        end
        r.events = string.sub(r.events, 1, at - 1) .. rest
        r.count = r.count - 1
    end
    r.events = r.events .. event(state, kind, r.updated, r.hash)
    r.count = r.count + 1
end

-- Stores what was changed. Of what is in its final state, that whose window is over is forgotten.
local function keep(s, records)
    local live, gone, ended, latencies = {}, {}, {}, {}
    for _, r in ipairs(records) do
        if r.state < FINALIZED then
            live[#live + 1] = r.id
            live[#live + 1] = written(r, r.element, r.events)
        else
            ended[#ended + 1] = r
            if r.live then gone[#gone + 1] = r.id end
            if r.state == FINALIZED then
                local bucket = octave_bucket(s.ms - r.created)
                latencies[bucket] = (latencies[bucket] or 0) + 1
            end
        end
    end
    append('HSET', s.at .. 'live', live)
    append('HDEL', s.at .. 'live', gone)
    if #ended == 0 then return end
    for bucket, many in pairs(latencies) do
        call('HINCRBY', s.at .. 'minute', 'l' .. math.floor(second(s) / 10) .. ':' .. bucket, many)
    end
    local w = s.windows
    for leaf, some in pairs(grouped(ended, function(r) return math.floor(r.created / w.leaf) end)) do
        local key = s.at .. 'd:' .. leaf
        local kept = call('EXISTS', key) == 1
        for _, r in ipairs(some) do
            if is_over(s, r, w.details) then
                r.payment = nil
            elseif kept and r.payment then
                call('LSET', key, r.index, r.id .. struct.pack('>BI2', r.count, #r.payment) .. r.payment .. r.events)
            end
        end
    end
    local filing = {}
    for _, r in ipairs(ended) do
        if not is_over(s, r, w.idempotency) then filing[#filing + 1] = r end
    end
    for slice, some in pairs(grouped(filing, function(r) return math.floor(r.created / w.slice) end)) do file(s, slice, some) end
end

-- Changes the records of those elements that have one and are live, by `step`, which gets record and index, and says
-- `false` where it left it; whether there were any.
local function change(s, elements, step)
    local ids, places = {}, {}
    for i = 1, #elements do
        if has_record(elements[i]) then
            ids[#ids + 1] = string.sub(elements[i], 2, 17)
            places[#places + 1] = i
        end
    end
    if #ids == 0 then return false end
    windows(s)
    local changed = {}
    for i, text in ipairs(chunked('HMGET', s.at .. 'live', ids)) do
        local r = text and read_live(ids[i], text)
        if r and step(r, places[i]) ~= false then changed[#changed + 1] = r end
    end
    keep(s, changed)
    return #changed > 0
end

-- The records of ids, by id.
local function find_all(s, ids)
    local w = windows(s)
    local found, missing = {}, {}
    -- All is gone, until a recovery.
    if not w.slice then return found end
    for i, text in ipairs(chunked('HMGET', s.at .. 'live', ids)) do
        if text then found[ids[i]] = read_live(ids[i], text) else missing[#missing + 1] = ids[i] end
    end
    -- One more than there should be: a clock may have gone back.
    local newest, oldest = math.floor(s.ms / w.slice) + 1, math.max(0, math.floor((s.ms - w.idempotency) / w.slice))
    local slices = {}
    for slice = newest, oldest, -1 do slices[#slices + 1] = slice end
    for i, many in ipairs(chunked('HMGET', s.at .. 'slices', slices)) do
        if many and #missing > 0 then
            local slice, left = slices[i], {}
            for at, some in pairs(grouped(missing, function(id) return bucket_of(id, tonumber(many)) end)) do
                local key = bucket_key(s, slice, at)
                for j, text in ipairs(chunked('HMGET', key, some)) do
                    local r = text and read_filed(s, some[j], text, slice, key)
                    if not r then
                        left[#left + 1] = some[j]
                    elseif not is_over(s, r, w.idempotency) then
                        found[r.id] = r
                    end
                end
            end
            missing = left
        end
    end
    return found
end

local function read_details(r, text)
    if not text or #text == 16 then return end
    local count, size, at = struct.unpack('>BI2', text, 17)
    r.count, r.payment, r.events = count, string.sub(text, at, at + size - 1), string.sub(text, at + size)
end

-- Brings the details of a record, where they are kept.
local function detail(s, r)
    if not r.live and not r.payment and not is_over(s, r, s.windows.details) then
        read_details(r, call('LINDEX', s.at .. 'd:' .. math.floor(r.created / s.windows.leaf), r.index))
    end
end

-- Which transfers a transaction carries, until a time.
local function note_transaction(s, hash, ids, ends)
    local key = s.at .. 't:' .. hash
    if ends and ends <= s.ms then
        call('UNLINK', key)
    elseif ends then
        call('SET', key, string.format('%015d', ends) .. ids, 'PX', ends - s.ms)
    else
        call('SET', key, string.rep('9', 15) .. ids)
    end
end

local function ids_of(elements)
    local ids = {}
    for i = 1, #elements do ids[i] = string.sub(elements[i], 2, 17) end
    return table.concat(ids)
end

local function sign_records(s, elements, hash)
    local changed = change(s, elements, function(r)
        r.hash, r.attempts = hash, r.attempts + 1
        move(s, r, SIGNED, 1)
    end)
    if changed then note_transaction(s, hash, ids_of(elements)) end
end

-- `back`: which go back to the queue, as `settle` has it; `state` and `error` are those of the others.
local function settle_records(s, elements, hash, back, state, error)
    local fated, last = tonumber(back), 0
    local changed = change(s, elements, function(r, index)
        -- It is another's, where a recovery found out more than its attempt.
        if r.hash ~= hash then return false end
        last = math.max(last, r.created)
        if back == 'all' or fated and index - 1 ~= fated then
            r.error = 0
            move(s, r, QUEUED, 2)
        else
            r.error = error
            move(s, r, state, 2)
        end
    end)
    if changed then note_transaction(s, hash, ids_of(elements), last + s.windows.details) end
end

local function cancel_records(s, elements)
    change(s, elements, function(r) move(s, r, CANCELLED, 0) end)
end

-- A transaction of a recovery: what it brought to an end (id, and a text of state and error) of those that have records.
local function import_records(s, hash, ids, ended)
    local asked = {}
    for i = 1, #ended, 2 do asked[#asked + 1] = ended[i] end
    local found, changed = find_all(s, asked), {}
    for i = 1, #ended, 2 do
        local r, state, error = found[ended[i]], string.byte(ended[i + 1], 1, 2)
        -- What the chain carried out, it did, whatever else was tried.
        if r and r.state ~= FINALIZED and (r.live or state == FINALIZED) then
            detail(s, r)
            if r.bucket then call('HDEL', r.bucket, r.id) end
            r.hash, r.error = hash, error
            move(s, r, state, 1)
            changed[#changed + 1] = r
        end
    end
    keep(s, changed)
    if next(found) then note_transaction(s, hash, ids, s.ms + s.windows.details) end
end

-- What a recovery found out of a transfer that nobody had a record of: the hash of its transaction if it is known, its
-- state and error.
local function paid_by(result)
    if result == '' then return '', FINALIZED, 0 end
    local _, at = unleb(result, 34)
    local fate = string.byte(result, at + 1)
    if fate == 1 then return string.sub(result, 2, 33), FAILED, 1 end
    if fate == 3 then return string.sub(result, 2, 33), REVIEW, 2 end
    return string.sub(result, 2, 33), FINALIZED, 0
end

-- What clients spent is read once and written once a step.
local function spend(s, spent, client, cap, amount)
    local today = math.floor(s.ms / 86400000)
    local known = spent[client] or call('HGET', s.at .. 'spent', client)
    local day, before = string.match(known or '0:0', '^(%d+):(%d+)$')
    -- A clock that goes back does not bring an earlier day's allowance back.
    if today > tonumber(day) then day, before = today, '0' end
    local after = sum_of(before, amount)
    if below(cap, after) then return false end
    spent[client] = day .. ':' .. after
    return true
end

-- A leaf whose time is over is thrown away, a few at once; where nothing is accepted any more, it expires.
local function sweep(s)
    local w = s.windows
    for _, leaf in ipairs(call('ZRANGE', s.at .. 'leaves', 0, 3)) do
        if (leaf + 1) * w.leaf + w.details > s.ms then return end
        call('UNLINK', s.at .. 'd:' .. leaf)
        call('ZREM', s.at .. 'leaves', leaf)
    end
end

-- As `push` begins; then for each submission its element, the digest, its client and what that may spend, or nothing and
-- nothing, and the amount.
local function accept(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    local client, number, groups = argv[3], argv[4], tonumber(argv[5])
    local again, before = answered(s, client, number)
    if again then return done(s, 'OK', before and cmsgpack.unpack(before) or {}) end
    if not whole(s) then return done(s, 'RESTORED') end
    local w = windows(s)
    local from, ids = 6 + 2 * groups, {}
    for at = from, #argv, 5 do ids[#ids + 1] = string.sub(argv[at], 2, 17) end
    local known = find_all(s, ids)
    local births = call('HMGET', s.at .. 'counts', 'born', 'last')
    local born, now = tonumber(births[1] or 0), math.max(s.ms, tonumber(births[2] or 0))
    local leaf = math.floor(now / w.leaf)
    local index = call('LLEN', s.at .. 'd:' .. leaf)
    local filtered = call('EXISTS', s.at .. 'imported') == 1
    local depth = call('LLEN', s.at .. 'queue')
    local was, most, left, group = depth, 0, 0, 0
    local answers, new, names, elements, paid, spent = {tostring(now)}, {}, {}, {}, {}, {}
    for i, id in ipairs(ids) do
        while left == 0 do
            left, most = tonumber(argv[6 + 2 * group]), tonumber(argv[7 + 2 * group])
            group = group + 1
        end
        left = left - 1
        local element, digest, whose, cap, amount = unpack(argv, from + 5 * i - 5, from + 5 * i - 1)
        local r, answer = known[id], nil
        local result = not r and filtered and call('HGET', s.at .. 'imported', id)
        if r then
            answer = 'C'
            if r.digest == digest then
                detail(s, r)
                answer = 'R' .. told(r)
            end
        elseif depth >= most and not result then
            answer = 'F'
        elseif whose ~= '' and not spend(s, spent, whose, cap, amount) and not result then
            answer = 'O'
        else
            r = {
                id = id, state = QUEUED, error = 0, attempts = 0, created = now, updated = now, digest = digest, hash = '',
                index = index + #names, element = element, payment = string.sub(element, 2 + length(element)),
                count = 1, events = event(QUEUED, 0, now),
            }
            known[id] = r
            names[#names + 1] = id
            count(s, QUEUED, 1)
            if result then
                local hash, state, error = paid_by(result)
                not_paid_yet(s, {element})
                r.hash, r.error = hash, error
                move(s, r, state, hash == '' and 0 or 1)
                paid[#paid + 1] = r
                answer = 'R' .. told(r)
            else
                depth = depth + 1
                new[#new + 1] = r
                elements[#elements + 1] = element
                answer = 'N'
            end
        end
        answers[i + 1] = answer
    end
    if #names > 0 then
        local key = s.at .. 'd:' .. leaf
        append('RPUSH', key, names)
        if index == 0 then
            sweep(s)
            call('ZADD', s.at .. 'leaves', born, leaf)
            call('PEXPIRE', key, (leaf + 2) * w.leaf + w.details - s.ms)
        end
        call('HSET', s.at .. 'counts', 'born', born + #names, 'last', now)
        for whose, sum in pairs(spent) do call('HSET', s.at .. 'spent', whose, sum) end
        keep(s, new)
        keep(s, paid)
    end
    if #new > 0 then
        append('RPUSH', s.at .. 'queue', elements)
        if was == 0 then call('PUBLISH', s.at .. 'work', '') end
        tally(s, 1, #new)
    end
    call('HSET', s.at .. 'pushes', client, number .. ':' .. cmsgpack.pack(answers))
    return done(s, 'OK', answers)
end

local function find(keys, argv)
    local s = begin(keys, argv)
    local ids, answers = {unpack(argv, 3)}, {}
    local found = find_all(s, ids)
    for i, id in ipairs(ids) do
        local r = found[id]
        if r then detail(s, r) end
        answers[i] = r and told(r) or ''
    end
    return done(s, 'OK', answers)
end

-- How many at most, and before which birth or nothing; then what is asked for, or nothing: how a payment begins, a state, and
-- a transaction's hash. The next birth to look at, and one more, or nothing; and the records.
local function list(keys, argv)
    local s = begin(keys, argv)
    local w = windows(s)
    local most, payment, state, hash = tonumber(argv[3]), argv[5], tonumber(argv[6]), argv[7]
    local before = math.min(tonumber(argv[4]) or 2 ^ 53, tonumber(call('HGET', s.at .. 'counts', 'born') or 0))
    local answers, looks = {}, 0
    while before > 0 do
        local first = call('ZREVRANGEBYSCORE', s.at .. 'leaves', before - 1, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
        local leaf, start = tonumber(first[1]), tonumber(first[2])
        if not leaf or (leaf + 1) * w.leaf + w.details <= s.ms then before = 0 break end
        if #answers == most or looks >= LOOKS then break end
        local from = math.max(0, before - start - 100)
        local some, ids = call('LRANGE', s.at .. 'd:' .. leaf, from, before - start - 1), {}
        if #some == 0 then before = 0 break end
        for i, text in ipairs(some) do ids[i] = string.sub(text, 1, 16) end
        local found = find_all(s, ids)
        for i = #some, 1, -1 do
            if #answers == most then break end
            before, looks = start + from + i - 1, looks + 1
            local r = found[ids[i]]
            -- It may have been accepted anew since.
            local here = r and math.floor(r.created / w.leaf) == leaf and r.index == from + i - 1
            if here and not is_over(s, r, w.details) then
                if not r.live then read_details(r, some[i]) end
                if (payment == '' or r.payment and string.sub(r.payment, 1, #payment) == payment)
                    and (not state or r.state == state) and (hash == '' or r.hash == hash) then
                    answers[#answers + 1] = told(r)
                end
            end
        end
    end
    return done(s, 'OK', before > 0 and tostring(before) or '', answers)
end

local function transaction(keys, argv)
    local s = begin(keys, argv)
    local text = call('GET', s.at .. 't:' .. argv[3])
    local kept = text and tonumber(string.sub(text, 1, 15)) > s.now / 1000
    return done(s, 'OK', kept and string.sub(text, 16) or '')
end

-- What a step said to `token`, if it was asked before.
local function recalled(s, token)
    for turn = 0, 1 do
        local answer = call('HGET', s.at .. 'settled:' .. turn, token)
        if answer then return answer end
    end
end

local function cancel(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    local id, token = argv[3], argv[4]
    local answer = recalled(s, token)
    if answer then return done(s, 'OK', answer) end
    -- A store that forgot might take back what was sent.
    if not whole(s) then return done(s, 'RESTORED') end
    reap(s)
    local r = find_all(s, {id})[id]
    if not r then return done(s, 'UNKNOWN') end
    detail(s, r)
    -- What is claimed is not queued, though its record says nothing of it. Who withdraws does it soon: from the end on.
    if r.state ~= QUEUED or call('LREM', s.at .. 'queue', -1, r.element) == 0 then return done(s, 'REFUSED', told(r)) end
    call('XADD', s.at .. 'results', '*', 'row', '\1' .. records({r.element}))
    move(s, r, CANCELLED, 0)
    keep(s, {r})
    remember(s, token, told(r))
    return done(s, 'OK', told(r))
end

-- `argv[5]`: how its element begins.
local function retry(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    local id, token = argv[3], argv[4]
    local answer = recalled(s, token)
    if answer then return done(s, 'OK', answer) end
    if not whole(s) then return done(s, 'RESTORED') end
    local r = find_all(s, {id})[id]
    if not r then return done(s, 'UNKNOWN') end
    detail(s, r)
    -- What a recovery found on chain is never put back, so it could not be tried again if its transaction died.
    if r.state ~= FAILED or not r.payment or call('HEXISTS', s.at .. 'imported', id) == 1 then
        return done(s, 'REFUSED', told(r))
    end
    call('HDEL', r.bucket, id)
    r.element, r.error = argv[5] .. r.payment, 0
    move(s, r, QUEUED, 0)
    keep(s, {r})
    if call('RPUSH', s.at .. 'queue', r.element) == 1 then call('PUBLISH', s.at .. 'work', '') end
    remember(s, token, told(r))
    return done(s, 'OK', told(r))
end

-- Attempts that were handed over.
local function sent(keys, argv)
    local s = begin(keys, argv)
    for i = 3, #argv do
        local packed = call('HGET', s.at .. 'attempts', argv[i])
        if packed then
            local a = cmsgpack.unpack(packed)
            local hash = string.sub(a[2], 1, 32)
            local changed = change(s, rest(a, 5), function(r)
                if r.state ~= SIGNED or r.hash ~= hash then return false end
                move(s, r, SUBMITTED, 2)
            end)
            s.changed = s.changed or changed
        end
    end
    return done(s, 'OK')
end

local function keep_for(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    call('HSET', s.at .. 'about', 'idempotency', argv[3], 'details', argv[4])
    return done(s, 'OK')
end

local function census(keys, argv)
    local s = begin(keys, argv)
    reap(s)
    windows(s)
    local counts = call('HMGET', s.at .. 'counts', 0, 1, 2, 3, 4, 5, 6)
    for i = 1, 7 do counts[i] = counts[i] or '0' end
    local first, oldest = call('LINDEX', s.at .. 'queue', 0), ''
    if first and has_record(first) then
        local id = string.sub(first, 2, 17)
        local text = call('HGET', s.at .. 'live', id)
        oldest = text and read_live(id, text).created or ''
    end
    local now, sums, latencies = second(s), {0, 0, 0}, {}
    local function add(at, ...)
        -- The second under way is not over.
        if at < now - 60 or at >= now then return end
        for kind, by in ipairs({...}) do sums[kind] = sums[kind] + by end
    end
    local last = call('HGET', s.at .. 'about', 'tally')
    if last then
        local at, accepted, finalized, failed = struct.unpack('>I5I4I4I4', last)
        add(at, accepted, finalized, failed)
    end
    local all = call('HGETALL', s.at .. 'minute')
    for i = 1, #all, 2 do
        local slot, bucket = string.match(all[i], '^l(%d+):(%d+)$')
        if not slot then
            add(tonumber(all[i]), string.match(all[i + 1], '^(%d+):(%d+):(%d+)$'))
        elseif tonumber(slot) > math.floor(now / 10) - 6 then
            latencies[#latencies + 1] = bucket
            latencies[#latencies + 1] = all[i + 1]
        end
    end
    local depth = call('LLEN', s.at .. 'queue')
    return done(s, 'OK', counts, depth, s.claimed, s.open, tostring(oldest), s.ms, sums[1], sums[2], sums[3], latencies)
end

register('accept', accept, {})
register('find', find, FULL)
register('list', list, FULL)
register('transaction', transaction, FULL)
register('cancel', cancel, FULL)
register('retry', retry, {})
register('sent', sent, FULL)
register('keep_for', keep_for, FULL)
register('census', census, FULL)
