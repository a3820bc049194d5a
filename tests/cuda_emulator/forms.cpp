#include "tests/cuda_emulator/forms.h"

#include <fmt/format.h>

#include <algorithm>

namespace kiln::emulator {

namespace {

struct Named {
  std::string_view name, list;
};

// Lists that the patterns below name.
constexpr Named kLists[] = {
    {"<integer>", "{s16,u16,s32,u32,s64,u64}"},
    {"<any integer>", "{s8,u8,s16,u16,s32,u32,s64,u64}"},
    {"<bits>", "{b16,b32,b64}"},
    {"<small>", "{f16,f16x2,bf16,bf16x2}"},
    {"<rounding>", "{rn,rz,rm,rp}"},
    {"<integral>", "{rni,rzi,rmi,rpi}"},
    {"<equal>", "{eq,ne}"},
    {"<order>", "{eq,ne,lt,le,gt,ge}"},
    {"<float order>", "{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}"},
    {"<logic>", "{,.and,.or,.xor}"},
    {"<32>", "{b32,s32,u32,f32}"},
    {"<64>", "{b64,s64,u64,f64}"},
    {"<value>", "{b16,s16,u16,b32,s32,u32,f32,b64,s64,u64,f64}"},
    {"<in memory>",
     "{b8,s8,u8,b16,s16,u16,b32,s32,u32,f32,b64,s64,u64,f64,v2.b8,v2.s8,v2.u8,v2.b16,v2.s16,v2.u16,v2.b32,"
     "v2.s32,v2.u32,v2.f32,v2.b64,v2.s64,v2.u64,v2.f64,v4.b8,v4.s8,v4.u8,v4.b16,v4.s16,v4.u16,v4.b32,v4.s32,"
     "v4.u32,v4.f32}"},
};

// {a,b} stands for a or b.
constexpr std::string_view kPatterns[] = {
    // integers
    "{add,sub,mul.lo,mul.hi,min,max,div,rem,mad.lo,mad.hi}.<integer>",
    "{add,sub}.sat.s32",
    "{mul,mad}.wide.{s16,u16,s32,u32}",
    "{neg,abs}.{s16,s32,s64}",
    // bits
    "{and,or,xor,not}.{pred,b16,b32,b64}",
    "cnot.<bits>",
    "shl.<bits>",
    "shr.{b16,s16,u16,b32,s32,u32,b64,s64,u64}",
    "shf.{l,r}.{clamp,wrap}.b32",
    "{popc,clz,brev}.{b32,b64}",
    "bfind{,.shiftamt}.{s32,u32,s64,u64}",
    "bfe.{s32,u32,s64,u64}",
    "bfi.{b32,b64}",
    "prmt.b32{,.f4e,.b4e,.rc8,.ecl,.ecr,.rc16}",
    "lop3.b32",
    // fp32 and fp64
    "{add,sub,mul}{,.rn,.rz,.rm,.rp}{,.ftz}{,.sat}.f32",
    "{fma,mad}.<rounding>{,.ftz}{,.sat}.f32",
    "{min,max}{,.ftz}{,.NaN}.f32",
    "{div,rcp,sqrt}.<rounding>{,.ftz}.f32",
    "div.{approx,full}{,.ftz}.f32",
    "{rcp,sqrt,rsqrt,ex2,lg2,sin,cos}.approx{,.ftz}.f32",
    "tanh.approx.f32",
    "{neg,abs}{,.ftz}.f32",
    "{add,sub,mul}{,.rn,.rz,.rm,.rp}.f64",
    "{fma,mad,div,rcp,sqrt}.<rounding>.f64",
    "rsqrt.approx.f64",
    "{min,max,neg,abs}.f64",
    "copysign.{f32,f64}",
    "testp.{finite,infinite,number,notanumber,normal,subnormal}.{f32,f64}",
    // f16 and bf16
    "{add,sub,mul}{,.rn}.<small>",
    "fma.rn{,.relu}.<small>",
    "{min,max}{,.NaN}.<small>",
    "{neg,abs}.<small>",
    "ex2.approx.{f16,f16x2}",
    "ex2.approx.ftz.{bf16,bf16x2}",
    "tanh.approx.<small>",
    // comparisons
    "setp.<order><logic>.<integer>",
    "setp.<equal><logic>.<bits>",
    "setp.{lo,ls,hi,hs}<logic>.{u16,u32,u64}",
    "setp.<float order><logic>{,.ftz}.f32",
    "setp.<float order><logic>.{f64,f16,bf16}",
    "set.<order>.{u32,s32,f32}.<integer>",
    "set.<float order>.{u32,s32,f32}.{f32,f64,f16,bf16}",
    "selp.<value>",
    "slct.{b32,s32,u32,f32,b64,s64,u64,f64}.{s32,f32}",
    // conversions
    "cvt{,.sat}.<any integer>.<any integer>",
    "cvt.<integral>{,.ftz}{,.sat}.<any integer>.f32",
    "cvt.<integral>{,.sat}.<any integer>.{f16,f64}",
    "cvt.<rounding>.{f32,f64}.<any integer>",
    "cvt.<rounding>.f16.{s8,u8,s16,u16,s32,u32}",
    "cvt{,.ftz}{,.sat}.f32.{f16,f32}",
    "cvt{,.ftz}{,.sat}.f64.f32",
    "cvt{,.sat}.f64.f16",
    "cvt.f32.bf16",
    "cvt.<integral>{,.ftz}{,.sat}.f32.f32",
    "cvt.<integral>{,.sat}.{f16.f16,f64.f64}",
    "cvt.<rounding>{,.ftz}{,.sat}.f32.f64",
    "cvt.<rounding>{,.sat}.f16.f64",
    "cvt.<rounding>{,.ftz}{,.sat}.f16.f32",
    "cvt.{rn,rz}.relu.f16.f32",
    "cvt.{rn,rz}{,.relu}.{bf16,f16x2,bf16x2}.f32",
    "cvt.rna.tf32.f32",
    // moves and addresses
    "mov.{pred,b16,s16,u16,b32,s32,u32,f32,b64,s64,u64,f64}",
    "cvta{,.to}.{global,shared,local,param,const}.u64",
    "isspacep.{global,shared,local,param}",
    // memory
    "ld{,.global,.shared,.local,.param,.const}.<in memory>",
    "ld.{volatile,relaxed,acquire}{,.global,.shared}.<in memory>",
    "ld.global.nc.<in memory>",
    "ldu{,.global}.<in memory>",
    "st{,.global,.shared,.local}.<in memory>",
    "st.{volatile,relaxed,release}{,.global,.shared}.<in memory>",
    "{atom,red}{,.global,.shared}.add.{s32,u32,u64,f32,f64,noftz.f16,noftz.f16x2,noftz.bf16,noftz.bf16x2}",
    "{atom,red}{,.global,.shared}.{min,max}.{s32,u32,s64,u64}",
    "{atom,red}{,.global,.shared}.{and,or,xor}.{b32,b64}",
    "{atom,red}{,.global,.shared}.{inc,dec}.u32",
    "atom{,.global,.shared}.exch.{b32,b64}",
    "atom{,.global,.shared}.cas.{b16,b32,b64}",
    "cp.async.{ca,cg}.shared.global",
    "cp.async.{commit_group,wait_group,wait_all}",
    "membar.{cta,gl,sys}",
    "fence.{sc,acq_rel}",
    "prefetch{,.global,.local}.{L1,L2}",
    "prefetchu.L1",
    "discard{,.global}.L2",
    "nanosleep.u32",
    // warps and blocks
    "shfl.sync.{up,down,bfly,idx}.b32",
    "vote.sync.{ballot.b32,any.pred,all.pred,uni.pred}",
    "match.{any,all}.sync.{b32,b64}",
    "redux.sync.{add,min,max}.{s32,u32}",
    "redux.sync.{and,or,xor}.b32",
    "{bar,barrier}.{sync,arrive,red.popc.u32,red.and.pred,red.or.pred}",
    "bar.warp.sync",
    "mma.sync.m16n8k16.row.col.{f32.bf16.bf16.f32,f32.f16.f16.f32,f16.f16.f16.f16}",
    "mma.sync.m16n8k8.row.col.{f32.bf16.bf16.f32,f32.f16.f16.f32,f16.f16.f16.f16}",
    "ldmatrix.sync.m8n8.{x1,x2,x4}{,.trans}.shared.b16",
    // control
    "{bra,ret,exit,brx.idx,trap,brkpt,call}",
};

// Modifiers that change nothing here (but for .cta, which the search for races heeds), and the opcodes that may have them.
struct Silent {
  std::string_view opcodes, modifiers;
};
constexpr Silent kSilent[] = {
    {"{bra,brx,ret,call}", "uni"},
    {"{barrier,mma,ldmatrix}", "aligned"},
    {"{bar,barrier}", "cta"},
    {"{ld,st}", "{weak,cta,gpu,sys}"},
    {"ld", "{ca,cg,cs,lu,cv,L2::64B,L2::128B,L2::256B}"},
    {"st", "{wb,cg,cs,wt}"},
    {"{ld,st}", "{L1::no_allocate,L1::evict_last,L1::evict_first,L1::evict_normal,L1::evict_unchanged}"},
    {"cp", "{L2::64B,L2::128B,L2::256B}"},
    {"{atom,red}", "{relaxed,cta,gpu,sys}"},
    {"atom", "{acquire,release,acq_rel}"},
    {"red", "release"},
    {"fence", "{cta,gpu,sys}"},
};

// "a{b,c}" to "ab" and "ac"; lists do not nest.
void expand(const std::string& pattern, std::vector<std::string>& to) {
  const size_t open = pattern.find('{');
  if (open == std::string::npos) {
    to.push_back(pattern);
    return;
  }
  const size_t close = pattern.find('}', open);
  for (size_t begin = open + 1; begin <= close;) {
    const size_t end = std::min(pattern.find(',', begin), close);
    expand(fmt::format("{}{}{}", pattern.substr(0, open), pattern.substr(begin, end - begin),
                       pattern.substr(close + 1)),
           to);
    begin = end + 1;
  }
}

std::vector<std::string> expanded(std::string_view pattern) {
  std::string text(pattern);
  for (const auto& [name, list] : kLists) {
    for (size_t at = text.find(name); at != std::string::npos; at = text.find(name))
      text.replace(at, name.size(), list);
  }
  std::vector<std::string> made;
  expand(text, made);
  return made;
}

const std::set<std::string>& silent_modifiers() {
  static const std::set<std::string> all = [] {
    std::set<std::string> made;
    for (const auto& [opcodes, modifiers] : kSilent) {
      const std::vector<std::string> each = expanded(fmt::format("{}.{}", opcodes, modifiers));
      made.insert(each.begin(), each.end());
    }
    return made;
  }();
  return all;
}

}  // namespace

std::string form_of(const Statement& s) {
  std::string form(s.opcode);
  for (const std::string_view modifier : s.modifiers) {
    if (silent_modifiers().contains(fmt::format("{}.{}", s.opcode, modifier))) continue;
    form += fmt::format(".{}", modifier == "shared::cta" ? "shared" : modifier);
  }
  return form;
}

const std::set<std::string>& known_forms() {
  static const std::set<std::string> all = [] {
    std::set<std::string> made;
    for (const std::string_view pattern : kPatterns) {
      const std::vector<std::string> forms = expanded(pattern);
      made.insert(forms.begin(), forms.end());
    }
    return made;
  }();
  return all;
}

std::vector<std::string> modifiers_without_effect() {
  return {silent_modifiers().begin(), silent_modifiers().end()};
}

}  // namespace kiln::emulator
